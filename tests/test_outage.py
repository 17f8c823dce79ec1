"""A database that goes away and comes back, before a receiver with a spool: all is answered 200, and stored."""

import json
import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import count

import psycopg
import pytest

from receiver.outage.spool import Spool
from tests.http_receiver import Receiver, rows, settings
from tests.outages import database, get, own_database, spooling
from tests.processes import agent_event, free_port, post, wait_for
from tests.receiver_fixtures import BASE_URL, SECRETS, SOURCES
from tests.signing import reminder, twilio
from tests.spools import fill

__all__ = ["database", "own_database"]


@pytest.fixture
def receiver(request, tmp_path):
    """Function that starts a receiver with a spool, in this process."""

    def one(dsn, **environ):
        spool = {"SPOOL_DIR": str(tmp_path / "spool"), "SPOOL_MAX_BYTES": str(1024**2)}
        running = Receiver(settings(tmp_path, dsn, SOURCES, BASE_URL=BASE_URL, **SECRETS, **{**spool, **environ}))
        request.addfinalizer(running.stop)
        return running

    return one


@pytest.fixture
def away():
    """Address of a database that does not answer, and of which nobody else's will be."""
    return f"postgresql://inbox:pw@127.0.0.1:{free_port()}/inbox"


def ready(receiver):
    return json.loads(receiver.send("GET", "/readyz", {}).body)


def test_what_comes_during_an_outage_is_stored_in_order_when_it_ends(database, tmp_path):
    with spooling(database.dsn, tmp_path) as receiver:
        assert receiver.send("before") == 200
        database.stop()
        assert [receiver.send(f"{n}") for n in range(20)] == [200] * 20
        found = receiver.ready()
        assert (found["ready"], found["storing"], found["spool"]["deliveries"]) == (True, "spool", 20)

        database.start()
        wait_for(lambda: len(database.events()) == 21)
        wait_for(lambda: receiver.ready()["storing"] == "database")
        assert receiver.send("after") == 200
        assert receiver.ready()["spool"]["deliveries"] == 0

    assert database.events() == ["before", *(f"{n}" for n in range(20)), "after"]
    assert database.ask("SELECT count(*) FROM webhook_duplicates") == [(0,)]


def test_what_was_spooled_outlives_a_kill_and_is_brought_by_the_next_receiver(database, tmp_path):
    with spooling(database.dsn, tmp_path) as receiver:
        database.stop()
        assert receiver.send("1") == 200
        receiver.kill()
    database.start()

    with spooling(database.dsn, tmp_path):
        wait_for(lambda: database.events() == ["1"])


def test_a_running_receiver_brings_what_one_left_that_was_killed(database, tmp_path):
    with spooling(database.dsn, tmp_path) as killed, spooling(database.dsn, tmp_path) as other:
        database.stop()
        assert (killed.send("1"), other.send("2")) == (200, 200)
        killed.kill()
        database.start()

        wait_for(lambda: sorted(database.events()) == ["1", "2"])
        assert sorted(file.name for file in tmp_path.glob("*.db")) == ["slot-0.db", "slot-1.db"]


def test_a_frozen_database_costs_the_first_delivery_its_deadline_and_the_next_nothing(database, tmp_path):
    with spooling(database.dsn, tmp_path) as receiver:
        assert receiver.send("before") == 200
        pids = [pid for (pid,) in database.ask("SELECT pid FROM pg_stat_activity")] + [database.server.pid]
        for pid in pids:
            freeze(pid, signal.SIGSTOP)
        try:
            took = []
            for n in range(5):
                began = time.monotonic()
                assert receiver.send(f"{n}") == 200
                took.append(time.monotonic() - began)
        finally:
            for pid in pids:
                freeze(pid, signal.SIGCONT)
        wait_for(lambda: len(database.events()) == 6)

    assert took[0] < 2.5
    assert sum(took[1:]) < took[0] + 2.5
    assert database.ask("SELECT count(*) FROM webhook_duplicates") == [(0,)]


def freeze(pid, how):
    with suppress(ProcessLookupError):  # a session that has ended meanwhile
        os.kill(pid, how)


def test_traffic_that_never_pauses_goes_back_to_the_table_also_with_a_slow_disk(
    db, dsn, receiver, tmp_path, monkeypatch
):
    (tmp_path / "spool").mkdir()
    before = Spool(tmp_path / "spool" / "slot-0.db")
    fill(before, *map(str, range(300)))
    before.close()
    writing = Spool._writing

    @contextmanager
    def slowly(spool):
        with writing(spool) as conn:
            time.sleep(0.02)
            yield conn

    monkeypatch.setattr(Spool, "_writing", slowly)
    running, enough = receiver(dsn), threading.Event()

    def send(sender):
        numbers = count(sender, 4)
        while not enough.is_set():
            assert reminder(next(numbers)).to(running).status == 200

    with ThreadPoolExecutor(4) as pool:
        senders = [pool.submit(send, sender) for sender in range(4)]
        try:
            wait_for(lambda: ready(running)["storing"] == "database", 30)
        finally:
            enough.set()
        for one in senders:
            one.result()
    assert db.execute("SELECT count(*) FROM webhook_duplicates").fetchone() == (0,)


def test_a_caller_is_answered_in_twiml_while_the_database_is_away(receiver, away):
    reply = twilio([("CallSid", "CA1"), ("CallStatus", "ringing")], "/webhooks/twilio-voice").to(receiver(away))

    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/xml")
    assert b"<Response>" in reply.body


def test_a_disk_that_stalls_has_the_time_that_a_database_known_to_be_away_does_not_need(receiver, away, monkeypatch):
    running = receiver(away)
    assert reminder(1).to(running).status == 200
    writing, stalled = Spool._writing, threading.Event()

    @contextmanager
    def stalling(spool):
        stalled.wait(1.2)
        with writing(spool) as conn:
            yield conn

    monkeypatch.setattr(Spool, "_writing", stalling)

    assert reminder(2).to(running).status == 200


def test_a_forgery_is_not_spooled(receiver, away):
    running = receiver(away)

    assert reminder(1).to(running, x_webhook_signature="0").status == 401

    assert ready(running)["spool"]["deliveries"] == 0


def test_a_full_spool_is_503_and_not_ready(receiver, away):
    running = receiver(away)
    large = [reminder(n, note="x" * 200_000) for n in range(8)]

    statuses = [one.to(running).status for one in large]

    assert set(statuses) == {200, 503}
    assert statuses == sorted(statuses)
    found = ready(running)
    assert (found["ready"], found["reasons"][-1]) == (False, "the spool or its disk is full; see SPOOL_MAX_BYTES")


@pytest.mark.parametrize("own", [{"SPOOL_DIR": "", "XDG_STATE_HOME": "{}/state"}, {"SPOOL_DIR": "{}/state"}])
def test_what_waits_for_another_database_is_told_at_the_start_and_not_brought(
    *, receiver, away, dsn, db, tmp_path, caplog, monkeypatch, own
):
    monkeypatch.setattr("receiver.outage.drain.LOOK", 0.1)
    home = {name: value.format(tmp_path) for name, value in own.items()}
    one = receiver(away, **home)
    assert reminder(1).to(one).status == 200
    one.stop()

    other = receiver(dsn, **home)

    (told,) = [record.message for record in caplog.records if "another DATABASE_URL" in record.message]
    assert "deliveries=1" in told
    assert f"SPOOL_DIR={tmp_path / 'state'}" in told
    assert "receiver spool drain slot-0 brings them" in told
    assert reminder(2).to(other).status == 200
    assert [row.subject for row in rows(db)] == ["reminder/rem_2"]


def test_without_a_spool_it_is_503(receiver, away):
    running = receiver(away, SPOOL_DIR="off")

    assert reminder(1).to(running).status == 503
    assert ready(running) == {"ready": False, "reasons": ["the database does not answer"]}


def test_an_insert_that_commits_late_makes_no_second_event_and_no_duplicate(receiver, db, dsn):
    running = receiver(dsn)
    with psycopg.connect(dsn) as blocker:
        blocker.execute("LOCK TABLE webhook_events IN ACCESS EXCLUSIVE MODE")
        assert reminder(1).to(running).status == 200
        assert ready(running)["storing"] == "spool"

    wait_for(lambda: ready(running)["spool"]["deliveries"] == 0)
    assert len(rows(db)) == 1
    assert db.execute("SELECT count(*) FROM webhook_duplicates").fetchone() == (0,)


def test_a_row_that_the_database_refuses_is_no_outage_and_set_aside(receiver, fresh_dsn):
    running = receiver(fresh_dsn)
    with psycopg.connect(fresh_dsn, autocommit=True) as db:
        db.execute("ALTER TABLE webhook_events ADD CHECK (event_type <> 'call.completed')")

        assert reminder(1).to(running).status == 200
        wait_for(lambda: ready(running)["spool"]["rejected"] == 1)

        assert ready(running)["storing"] == "database"


def test_a_database_without_tables_is_an_outage(receiver, empty_dsn):
    running = receiver(empty_dsn)

    assert reminder(1).to(running).status == 200

    assert ready(running)["spool"]["deliveries"] == 1


def test_nobody_waits_longer_than_the_deadline_however_many_come(receiver, away):
    running = receiver(away)
    began = time.monotonic()

    with ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(lambda n: reminder(n).to(running), range(100)))

    assert [reply.status for reply in replies] == [200] * 100
    assert time.monotonic() - began < 20


def test_prometheus_reads_what_is_spooled_on_a_port_of_its_own(fresh_dsn, tmp_path):
    port = free_port()
    with spooling(fresh_dsn, tmp_path, options=("--metrics-port", str(port))) as receiver:
        wait_for(lambda: is_served(port))
        with psycopg.connect(fresh_dsn, autocommit=True) as db:
            db.execute("ALTER TABLE webhook_events RENAME TO away")
            assert receiver.send("1") == 200
            found = get(port, "/metrics")
            assert "\nwebhook_inbox_spool_deliveries 1\n" in found
            assert "\nwebhook_inbox_database_away 1\n" in found
            assert '\nwebhook_inbox_requests_total{source="agent",outcome="spooled"} 1\n' in found

            db.execute("ALTER TABLE away RENAME TO webhook_events")
            wait_for(lambda: "\nwebhook_inbox_drained_total 1\n" in get(port, "/metrics"))

        assert "# TYPE webhook_inbox_spooled_total counter" in get(port, "/metrics")
        assert post(receiver.port, *agent_event("2")) == 200
        assert "webhook_inbox" not in get(receiver.port, "/metrics")


def test_metrics_wait_for_their_port_and_no_delivery_does(fresh_dsn, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with spooling(fresh_dsn, tmp_path, options=("--metrics-port", str(port))) as receiver:
            assert receiver.send("1") == 200
            taken.close()

            wait_for(lambda: is_served(port))


def is_served(port):
    try:
        return "webhook_inbox_" in get(port, "/metrics")
    except OSError:
        return False
