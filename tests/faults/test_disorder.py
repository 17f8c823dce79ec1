"""Events that come in another order than they happened: the call stays as far as it was."""

import pytest

from handlers import call_log, calls
from processor import on, registry
from tests.inbox import add, process


@pytest.fixture(autouse=True)
def handlers(monkeypatch):
    monkeypatch.setattr(registry, "HANDLERS", [])
    on(*calls.STATES)(call_log.keep_call)


def state(db):
    return db.execute("SELECT state FROM calls").fetchall()


def test_a_call_that_is_completed_does_not_ring_again(db):
    add(db, "call.completed", subject="call/CA1", occurred_at="2026-01-01 00:00:09 UTC")
    add(db, "call.ringing", subject="call/CA1", occurred_at="2026-01-01 00:00:01 UTC")

    process(db)

    assert state(db) == [("completed",)]


def test_nor_when_its_older_event_is_replayed(db):
    ringing = add(db, "call.ringing", subject="call/CA1", occurred_at="2026-01-01 00:00:01 UTC")
    add(db, "call.completed", subject="call/CA1", occurred_at="2026-01-01 00:00:09 UTC")
    process(db)

    db.execute("UPDATE webhook_events SET processed_at = NULL WHERE id = %s", [ringing])
    process(db)

    assert state(db) == [("completed",)]


def test_nor_by_an_event_without_a_time(db):
    add(db, "call.completed", subject="call/CA1", occurred_at="2026-01-01 00:00:09 UTC")
    add(db, "call.answered", subject="call/CA1", occurred_at=None)

    process(db)

    assert state(db) == [("completed",)]
