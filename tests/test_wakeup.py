"""An event is handled as soon as it is stored or due, and a wake-up that fails costs no more than a poll."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psycopg
import pytest

from processor import on, registry, wakeup
from processor.cli_run import run
from processor.loop import Processor
from processor.session import Session
from processor.wakeup import Wakeup
from receiver import wakeup as receivers
from sql import database, load
from tests.inbox import add, look
from tests.processes import agent_event, free_port, post, processor, receiver, wait_for
from tests.receiver_fixtures import BASE_URL, SECRETS, SOURCES, start
from tests.signing import reminder

__all__ = ["start"]

NEVER = 600  # seconds, an interval that no test lives to see the end of
HANDLERS = ("--interval", str(NEVER), "--handlers", "tests.crash_handlers")


@pytest.fixture
def effects(fresh_dsn):
    with psycopg.connect(fresh_dsn, autocommit=True) as conn:
        conn.execute("CREATE TABLE effects (event_id text)")
        yield conn


@pytest.fixture
def sessions(dsn):
    """Function that opens a worker's session; all are closed at the end."""
    opened = []

    def one():
        opened.append(Session.open(partial(psycopg.connect, dsn, **database.CONNECT)))
        return opened[-1]

    yield one
    for session in opened:
        session.close()


def handled(conn, count):
    return lambda: conn.execute("SELECT count(*) FROM effects").fetchone() == (count,)


def notify(conn, payload=""):
    conn.execute(load("notify"), {"payload": payload})


def waits(wakeup, session, seconds=NEVER, stopping=None):
    """Wait, and return what the wait returned and whether it ended early."""
    began = time.monotonic()
    returned = wakeup.wait(session, seconds, stopping or threading.Event())
    return returned, time.monotonic() - began < seconds


def listening(session):
    """Have a session listen, and return its Wakeup once that has heard its first probe."""
    own = Wakeup()
    own.wait(session, NEVER, threading.Event())
    wait_for(lambda: own.wait(session, 0.05, threading.Event()) and own.heard_at > 0)
    return own


def end_backends(conn, name):
    """Terminate the server processes of everybody called so in this database, and return how many there were."""
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
    return len(conn.execute(f"{ended} AND application_name = %s".encode(), [name]).fetchall())


def test_a_delivery_is_handled_long_before_the_interval_is_over(effects, fresh_dsn):
    port = free_port()
    with receiver(fresh_dsn, port), processor(fresh_dsn, *HANDLERS):
        for number in range(1, 6):
            assert post(port, *agent_event(f"event-{number}")) == 200
            wait_for(handled(effects, number))


def test_without_listening_a_delivery_is_handled_by_the_next_poll(effects, fresh_dsn):
    port, polling = free_port(), ("--no-listen", "--interval", "0.2", "--handlers", "tests.crash_handlers")
    with receiver(fresh_dsn, port), processor(fresh_dsn, *polling):
        for number in range(1, 3):
            assert post(port, *agent_event(f"event-{number}")) == 200
            wait_for(handled(effects, number))


def test_an_event_that_becomes_due_ends_the_wait(effects, fresh_dsn):
    with processor(fresh_dsn, *HANDLERS):
        add(effects, "call.answered")
        notify(effects)
        wait_for(handled(effects, 1))

        with effects.transaction():
            add(effects, "call.answered")
            add(effects, "call.answered")
            effects.execute("UPDATE webhook_events SET next_attempt_at = now() + interval '1 second' WHERE id = 3")
        notify(effects)

        wait_for(handled(effects, 3))
    (early,) = look(effects, 3, "processed_at < next_attempt_at")
    assert not early


def test_an_idle_processor_stops_at_once(effects, fresh_dsn):
    with processor(fresh_dsn, *HANDLERS) as worker:
        add(effects, "call.answered")
        wait_for(handled(effects, 1))
        began = time.monotonic()

        assert worker.stop() == 0

        assert time.monotonic() - began < 20


def test_a_processor_whose_connections_are_all_ended_while_it_waits_is_woken_again(effects, fresh_dsn):
    port = free_port()
    with receiver(fresh_dsn, port), processor(fresh_dsn, *HANDLERS):
        for number in range(1, 4):
            assert post(port, *agent_event(f"event-{number}")) == 200
            wait_for(handled(effects, number))
            assert end_backends(effects, "inbox-processor") >= 2


def test_a_session_that_begins_to_listen_looks_for_events_once_more(sessions):
    assert waits(Wakeup(), sessions()) == (True, True)


def test_what_is_told_while_a_worker_is_busy_ends_its_next_wait(db, sessions):
    session = sessions()
    own = listening(session)

    notify(db)
    wait_for(lambda: session.control.execute("SELECT 1") and own.woken)

    assert waits(own, session) == (True, True)
    assert not own.woken


def test_a_worker_that_is_never_idle_hoards_no_notifications(db, sessions):
    session = sessions()
    own = listening(session)

    notify(db)
    wait_for(lambda: session.control.execute("SELECT 1") and own.woken)

    assert list(session.control.notifies(timeout=0.1)) == []


def test_a_probe_wakes_nobody(db, sessions):
    session = sessions()
    own = listening(session)

    notify(db, wakeup.PROBE)

    assert waits(own, session, 0.5) == (True, False)


def test_a_wait_ends_when_stopping_is_set_by_another_thread(sessions):
    session, stopping = sessions(), threading.Event()
    own = listening(session)
    later = threading.Timer(0.1, stopping.set)
    later.start()

    assert waits(own, session, stopping=stopping) == (True, True)
    later.join()


@pytest.mark.parametrize("which", ["conn", "control"])
def test_a_session_that_lost_a_connection_is_to_be_replaced_and_its_successor_hears(
    db, sessions, which, caplog, monkeypatch
):
    monkeypatch.setattr(wakeup, "SILENCE", 0.1)  # so that the other connection is used, too
    session = sessions()
    own = listening(session)
    db.execute("SELECT pg_terminate_backend(%s)", [getattr(session, which).info.backend_pid])

    wait_for(lambda: own.wait(session, 1, threading.Event()) is False)

    assert "wake-up lost" in caplog.text
    successor = sessions()
    assert waits(own, successor) == (True, True)
    notify(db)
    assert waits(own, successor) == (True, True)
    assert "wake-up recovered" in caplog.text


def test_a_session_that_hears_nothing_is_to_be_replaced(sessions, caplog, monkeypatch):
    session = sessions()
    own = listening(session)
    monkeypatch.setattr(wakeup, "SILENCE", 0.1)
    monkeypatch.setattr(wakeup, "PATIENCE", 0.5)
    session.control.execute("UNLISTEN *")

    assert waits(own, session) == (False, True)

    assert "wake-up lost cause=a probe was not heard" in caplog.text
    assert waits(own, sessions()) == (True, True)


def test_a_processor_that_hears_nothing_connects_anew_and_is_woken_again(db, dsn, monkeypatch):
    monkeypatch.setattr(wakeup, "SILENCE", 0.1)
    monkeypatch.setattr(wakeup, "PATIENCE", 1.0)
    monkeypatch.setattr(registry, "HANDLERS", [])
    monkeypatch.setattr(wakeup, "RETRY", 0.1)  # a busy machine may not be heard in time, and is to listen again
    opened = []

    def connect():
        opened.append(psycopg.connect(dsn, **database.CONNECT))
        return opened[-1]

    worker = Processor(connect)

    @on("call.answered")
    def deafen(event, conn):  # by the worker's own thread: of two that read from a connection, one would miss an answer
        assert worker.wakeup.control
        worker.wakeup.control.execute("UNLISTEN *")

    running = threading.Thread(target=worker.run, args=[NEVER])
    running.start()
    try:
        wait_for(lambda: worker.wakeup.heard_at > 0)
        add(db, "call.answered")
        notify(db)

        wait_for(lambda: worker.wakeup.control not in opened[:2])
        event = add(db)
        wait_for(lambda: notify(db) or look(db, event, "outcome") == ("no_handler",))
    finally:
        worker.stopping.set()
        running.join()


def test_where_nothing_was_ever_heard_the_next_session_only_polls_for_a_while(sessions, monkeypatch):
    monkeypatch.setattr(wakeup, "PATIENCE", 0.2)
    session, own = sessions(), Wakeup()
    own.wait(session, NEVER, threading.Event())
    session.control.execute("UNLISTEN *")
    assert waits(own, session) == (False, True)

    successor = sessions()

    assert waits(own, successor, 0.1) == (True, False)
    assert successor.control.execute("SELECT pg_listening_channels()").fetchall() == []


def test_who_is_not_to_listen_does_not(sessions):
    session = sessions()

    assert waits(Wakeup(listen=False), session, 0.1) == (True, False)

    assert session.control.execute("SELECT pg_listening_channels()").fetchall() == []


@pytest.mark.parametrize(
    ("words", "environ", "listens"),
    [([], {}, True), (["--no-listen"], {}, False), ([], {"PROCESSOR_LISTEN": "false"}, False),
     (["--listen"], {"PROCESSOR_LISTEN": "0"}, True)],
)  # fmt: skip
def test_it_listens_unless_it_is_told_not_to(words, environ, listens, monkeypatch):
    monkeypatch.delenv("PROCESSOR_LISTEN", raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    with run.make_context("run", words) as context:
        assert context.params["listen"] is listens


# The receiver's part.


@pytest.fixture
def heard(dsn):
    """Function that waits for so many notifications, and returns how many have come in all."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(load("listen"))
        count = 0

        def total(most=1_000_000, seconds=0.5):
            nonlocal count
            until = time.monotonic() + seconds
            while count < most and (left := until - time.monotonic()) > 0:
                count += len(list(conn.notifies(timeout=left, stop_after=1)))
            return count

        yield total


def test_a_delivery_that_comes_again_is_not_told_again(start, heard, monkeypatch):
    monkeypatch.setattr(receivers, "GAP", 0)
    door = start(SOURCES, {"BASE_URL": BASE_URL, **SECRETS})

    for number, told in ((1, 1), (1, 1), (1, 1), (2, 2)):
        assert reminder(number).to(door).status == 200
        assert heard(told, 30) == told

    assert heard() == 2


def test_what_is_told_is_on_its_way_before_the_event_loop_does_anything_else(dsn, heard):
    async def tell():
        own = receivers.Wakeup(dsn)
        own.start()
        await asyncio.to_thread(wait_for, lambda: own.idle is not None)
        own.tell()
        told = heard(1, 30)  # the loop stands still meanwhile
        await own.stop()
        return told

    assert asyncio.run(tell()) == 1


def test_what_is_stored_while_a_notification_is_under_way_is_told_by_another(dsn, heard, monkeypatch):
    monkeypatch.setattr(receivers, "GAP", 0)

    async def tell():
        own = receivers.Wakeup(dsn)
        own.start()
        await asyncio.to_thread(wait_for, lambda: own.idle is not None)
        own.tell()
        assert own.idle is None
        own.tell()
        told = await asyncio.to_thread(heard, 2, 30)
        await own.stop()
        return told

    assert asyncio.run(tell()) == 2


def test_a_receiver_that_lost_its_connections_stores_at_once_and_tells_it_later(start, heard, db):
    door = start(SOURCES, {"BASE_URL": BASE_URL, **SECRETS})
    assert reminder(1).to(door).status == 200
    assert heard(1, 30) == 1

    assert end_backends(db, "inbox-receiver") >= 2

    assert reminder(2).to(door).status == 200
    assert heard(2, 30) == 2


@pytest.mark.parametrize("does", ["RAISE EXCEPTION 'no'", "PERFORM pg_sleep(600)"])
def test_a_notification_that_fails_or_hangs_delays_no_delivery(start, fresh_dsn, does):
    with psycopg.connect(fresh_dsn, autocommit=True) as conn:
        # In place of the server's own: it is found first.
        conn.execute(
            f"CREATE FUNCTION pg_notify(text, text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN {does}; END $$".encode()
        )
        conn.execute(f"ALTER DATABASE {conn.info.dbname} SET search_path = public, pg_catalog".encode())
    door = start(SOURCES, {"BASE_URL": BASE_URL, **SECRETS}, dsn=fresh_dsn)

    assert [reminder(number).to(door).status for number in range(20)] == [200] * 20


def test_a_burst_of_deliveries_is_told_in_far_fewer_notifications(start, heard, monkeypatch):
    monkeypatch.setattr(receivers, "GAP", 0.25)
    monkeypatch.setattr(receivers, "GAP_MOST", 0.25)
    # One of its own: that of the tests above is in a gap of before, and would come to this one's only by doubling it.
    door = start(SOURCES, {"BASE_URL": BASE_URL, "SPOOL_DIR": "off", **SECRETS})
    began = time.monotonic()

    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda number: reminder(number).to(door).status, range(100)))

    took = time.monotonic() - began
    assert replies == [200] * 100
    assert 1 <= heard() <= took / 0.25 + 4
