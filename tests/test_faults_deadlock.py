"""Two handlers that lock the same rows in opposite order: the database ends one, it is run again, nothing is lost."""

import pytest

from tests.faults import HANDLERS, attempts, conn, effects, trace
from tests.inbox import add, look
from tests.processes import processor, wait_for

__all__ = ["conn", "trace"]


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
