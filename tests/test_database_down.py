"""A database that is away, mute or without tables: 503 in time, nothing claimed to be stored, and alive throughout."""

import asyncio
import json
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psycopg
import pytest

from receiver.delivery import Delivery
from receiver.providers import agent
from receiver.settings import sources_from
from receiver.store import Store
from tests.http_receiver import rows
from tests.processes import SECRET, agent_event, wait_for
from tests.receiver_fixtures import BASE_URL, SECRETS, SOURCES, connection, db, start
from tests.signing import reminder, twilio, vapi

__all__ = ["connection", "db", "start"]

SENT = [reminder(1), vapi(b'{"message":{"type":"hang"}}'), twilio([("CallSid", "CA1")])]


@pytest.fixture(scope="module")
def closed_port():
    """Bound, and so nobody else's, but not listened on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture(scope="module")
def mute_port():
    """Connections are taken, and never answered."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        yield mute.getsockname()[1]


@pytest.fixture(params=["closed", "mute"])
def away(request, start, closed_port, mute_port):
    port = {"closed": closed_port, "mute": mute_port}[request.param]
    return start(SOURCES, {"BASE_URL": BASE_URL, **SECRETS}, dsn=f"postgresql://inbox:pw@127.0.0.1:{port}/inbox")


def test_deliveries_are_answered_503_within_three_seconds(away, caplog):
    began = time.monotonic()
    with ThreadPoolExecutor() as pool:
        replies = list(pool.map(lambda sent: sent.to(away), SENT))

    assert [(reply.status, reply.body, reply.headers["retry-after"]) for reply in replies] == [(503, b"", "5")] * 3
    assert time.monotonic() - began < 3
    assert "delivery not stored source=agent status=503" in caplog.text
    assert "pw@" not in caplog.text


def test_a_forgery_is_still_refused(away):
    assert reminder(1).to(away, x_webhook_signature="0").status == 401


def test_the_process_is_alive_and_not_ready(away):
    assert away.send("GET", "/livez", {}).status == 200

    reply = away.send("GET", "/readyz", {})

    assert reply.status == 503
    assert json.loads(reply.body) == {"ready": False, "reasons": ["the database does not answer"]}


def test_the_log_says_what_keeps_the_receiver_from_the_database(start, closed_port, caplog):
    start(SOURCES, {"BASE_URL": BASE_URL, **SECRETS}, dsn=f"postgresql://inbox:pw@127.0.0.1:{closed_port}/other")

    wait_for(lambda: re.search("wake-up lost cause=OperationalError .*Connection refused", caplog.text))
    assert "pw@" not in caplog.text


def test_a_database_without_tables_is_not_ready_and_stores_nothing(start, empty_dsn, caplog):
    receiver = start(SOURCES, {"BASE_URL": BASE_URL, **SECRETS}, dsn=empty_dsn)

    assert reminder(1).to(receiver).status == 503
    assert "status=503 cause=the database failed (42P01); run `processor db migrate`" in caplog.text
    assert "processor db migrate" in receiver.send("GET", "/readyz", {}).body.decode()


def test_with_a_spool_too_the_log_says_that_there_are_no_tables(start, empty_dsn, tmp_path, caplog):
    receiver = start(SOURCES, {"BASE_URL": BASE_URL, "SPOOL_DIR": str(tmp_path), **SECRETS}, dsn=empty_dsn)

    assert reminder(1).to(receiver).status == 200
    wait_for(lambda: "spool not drained cause=UndefinedTable (42P01); run `processor db migrate`" in caplog.text)


def test_a_database_with_tables_is_ready(start, db):
    assert start(SOURCES, {"BASE_URL": BASE_URL, **SECRETS}).send("GET", "/readyz", {}).status == 200


def test_a_lost_connection_is_replaced_within_the_delivery(start, db):
    receiver = start(SOURCES, {"BASE_URL": BASE_URL, **SECRETS})
    assert reminder(1).to(receiver).status == 200
    db.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'inbox-receiver'"
    )

    assert reminder(2).to(receiver).status == 200

    assert len(rows(db)) == 2


def test_a_connection_lost_after_a_commit_makes_no_second_delivery_of_it(fresh_dsn):
    (source,) = sources_from({"WEBHOOK_SECRET": SECRET})
    body, headers = agent_event("1")
    delivery = Delivery("POST", "", "/webhooks/agent", headers, body)
    (first,) = agent.identify(delivery, source.options)
    second = replace(first, event_id="2")  # at whose first insert the session is ended, after the first's commit

    async def save():
        store = Store(fresh_dsn)
        await store.open()
        try:
            return await store.save(source, delivery, [first, second])
        finally:
            await store.close()

    with psycopg.connect(fresh_dsn, autocommit=True) as db:
        db.execute(
            "CREATE SEQUENCE inserts; CREATE FUNCTION test_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " IF NEW.event_id = '2' AND nextval('inserts') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid());"
            " END IF; RETURN NEW; END $$;"
            "CREATE TRIGGER test BEFORE INSERT ON webhook_events FOR EACH ROW EXECUTE FUNCTION test_trigger()"
        )

        assert [saved.duplicate for saved in asyncio.run(save())] == [False, False]

        assert db.execute("SELECT count(*) FROM webhook_duplicates").fetchone() == (0,)


def test_a_row_that_waits_for_a_lock_is_503_and_then_stored_at_most_once(start, db, session_database):
    receiver = start(SOURCES, {"BASE_URL": BASE_URL, **SECRETS}, deadline=0.3)
    with psycopg.connect(session_database) as blocker:
        blocker.execute("LOCK TABLE webhook_events IN ACCESS EXCLUSIVE MODE")
        assert reminder(1).to(receiver).status == 503

    assert reminder(1).to(receiver).status == 200
    assert len(rows(db)) == 1
