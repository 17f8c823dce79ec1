"""Two handlers that lock the same rows in opposite order: the database ends one, it is run again, nothing is lost."""

import threading

import psycopg
import pytest

from processor import on, registry
from processor.loop import Processor
from tests.faults.attempts import HANDLERS, attempts, effects
from tests.inbox import add, look
from tests.processes import processor, wait_for

OPTIONS = ("--interval", "0.1", "--batch-size", "1", "--workers", "2", *HANDLERS)


@pytest.fixture
def counters(conn):
    conn.execute("CREATE TABLE counters (id integer PRIMARY KEY, n integer NOT NULL DEFAULT 0)")
    conn.execute("INSERT INTO counters (id) VALUES (1), (2)")


def test_a_deadlock_between_handlers_costs_no_effect_and_doubles_none(conn, fresh_dsn, trace, counters):
    events = [add(conn, "fault.forwards"), add(conn, "fault.backwards")]

    with processor(fresh_dsn, *OPTIONS):
        wait_for(lambda: len(effects(conn)) == len(events))

    assert len(attempts(trace)) > len(events)
    assert conn.execute("SELECT n FROM counters ORDER BY id").fetchall() == [(2,), (2,)]
    assert [look(conn, event, "outcome, crashes, dead_at") for event in events] == [("handled", 0, None)] * 2


def test_a_handler_that_lost_a_deadlock_is_run_again_at_once_and_spends_no_attempt(conn, fresh_dsn, trace, counters):
    events = [add(conn, "fault.forwards"), add(conn, "fault.backwards")]

    with processor(fresh_dsn, *OPTIONS):
        wait_for(lambda: len(effects(conn)) == len(events))

    assert [look(conn, event, "attempts") for event in events] == [(1,), (1,)]


def test_what_earlier_events_of_a_batch_have_locked_is_let_go_of_before_the_loser_runs_again(
    conn, fresh_dsn, counters, monkeypatch
):
    monkeypatch.setattr(registry, "HANDLERS", [])
    holds_one, waits = threading.Event(), threading.Event()

    @on("lock.one")
    def lock_one(event, conn):
        conn.execute("UPDATE counters SET n = n + 1 WHERE id = 1")
        holds_one.set()
        assert waits.wait(30)

    @on("lock.two")
    def lock_two(event, conn):
        conn.execute("SET LOCAL deadlock_timeout = '10ms'")  # so that it is we who notice
        conn.execute("UPDATE counters SET n = n + 1 WHERE id = 2")

    def rival():
        with psycopg.connect(fresh_dsn) as other:
            other.execute("UPDATE counters SET n = n + 1 WHERE id = 2")
            assert holds_one.wait(30)
            waits.set()
            other.execute("UPDATE counters SET n = n + 1 WHERE id = 1")

    events = [add(conn, "lock.one"), add(conn, "lock.two")]
    thread = threading.Thread(target=rival)
    thread.start()

    Processor(lambda: psycopg.connect(fresh_dsn, autocommit=True)).run(0.05, once=True)
    thread.join()

    assert [look(conn, event, "outcome, attempts") for event in events] == [("handled", 1)] * 2
    assert conn.execute("SELECT n FROM counters ORDER BY id").fetchall() == [(2,), (2,)]
