"""A database that is restarted, or comes later than those who need it: they wait, and no delivery pays for it."""

import asyncio
import signal
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from benchmarks.server import answers
from receiver.samples import Sample
from tests.faults.history import History
from tests.faults.rig import rig
from tests.faults.sender import Policy, Sender
from tests.faults.traffic import Planned
from tests.processes import Command, agent_event, free_port, post, processor, receiver, wait_for

HANDLERS = ("--interval", "0.1", "--handlers", "tests.faults.effect_handlers")
MANY = 700  # more than may wait for the database at a time
AT_ONCE = 32  # more than the receiver has connections
# The statement of the receiver as it was released with migration 15.
RELEASED = """
    INSERT INTO webhook_events (
        app_id, source, provider, event_id, event_type, provider_type, subject, method, url,
        headers, body, body_sha256, payload, parse_error, occurred_at, dead_at, last_error
    )
    VALUES ('default', 'agent', 'agent', 'old', 'call.answered', 'call_answered', 'reminder/1', 'POST', '',
            '{}', '{}', sha256('{}'), '{}', NULL, NULL, NULL, NULL)
    ON CONFLICT (source, event_id) DO NOTHING
    RETURNING id
"""


def send_at_once(port, name):
    with ThreadPoolExecutor(AT_ONCE) as senders:
        return list(senders.map(lambda n: post(port, *agent_event(f"{name}-{n}")), range(AT_ONCE)))


@pytest.fixture
def away(server):
    """A server of our own, stopped."""
    server.stop()
    yield server
    server.stop()
    server.start()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "immediate"])
def test_after_a_restart_no_delivery_meets_a_stale_connection(server, how):
    port = free_port()
    with receiver(server.dsn, port, SPOOL_DIR="off"):
        assert send_at_once(port, "before") == [200] * AT_ONCE
        server.restart(how)

        assert send_at_once(port, "after") == [200] * AT_ONCE


def test_a_receiver_that_is_earlier_than_its_database_refuses_until_it_is_there(away):
    port = free_port()
    running = Command(away.dsn, "receiver", "run", "--port", str(port), SPOOL_DIR="off")
    try:
        wait_for(lambda: listens(port))
        assert not answers(port)
        assert post(port, *agent_event("early")) == 503

        away.start()
        wait_for(lambda: answers(port))
        assert post(port, *agent_event("early")) == 200
    finally:
        running.stop()


def test_a_receiver_recovers_however_many_deliveries_came_while_the_database_was_away(server, tmp_path):
    flood = [Planned(n / 1000, "agent", Sample("call.answered", f"rem_{n}")) for n in range(MANY)]

    with rig(tmp_path, server.dsn, spool=False) as it, History(tmp_path / "history") as history:
        sender = Sender(it.port, it.sources, history, {"agent": Policy(5, 10)})
        server.stop()
        asyncio.run(sender.run(flood))
        server.start()
        wait_for(lambda: answers(it.port))

        asyncio.run(sender.run([Planned(0.0, "agent", Sample("call.answered", "rem_late"))]))

    assert [one.status for one in sender.answers] == [*[503] * MANY, 200]


def test_a_processor_that_is_earlier_than_its_database_waits_for_it(away):
    with processor(away.dsn, *HANDLERS) as running:
        away.start()
        with psycopg.connect(away.dsn, autocommit=True) as conn:
            conn.execute(RELEASED)
            wait_for(lambda: conn.execute("SELECT count(*) FROM effects").fetchone() == (1,))
        assert running.process.poll() is None


def test_the_receiver_of_the_release_before_stores_in_todays_table(fresh_dsn, conn):
    assert conn.execute(RELEASED).fetchone() == (1,)
    assert conn.execute(RELEASED).fetchone() is None


def listens(port):
    try:
        return post(port, b"", {}) == 401
    except OSError:
        return False
