"""Replay and skip by plain SQL, as an operator types it into psql."""

from typing import Any

import psycopg
import pytest

from processor import on, registry
from tests.inbox import add, look, process


@pytest.fixture(autouse=True)
def seen(monkeypatch):
    monkeypatch.setattr(registry, "HANDLERS", [])
    attempts = []
    on("call.ringing")(lambda event, conn: attempts.append((event.id, event.attempt, event.replays)))
    return attempts


def test_a_processed_event_is_handled_again(db, seen):
    event = add(db)
    process(db)

    db.execute("UPDATE webhook_events SET processed_at = NULL WHERE id = %s", [event])
    process(db)

    assert seen == [(event, 1, 0), (event, 1, 1)]
    assert look(db, event, "outcome, attempts, replays") == ("handled", 1, 1)


def test_a_dead_letter_is_revived_though_its_processed_at_is_null_already(db, seen):
    event = add(db, attempts=12, dead_at="2026-01-01", last_error="was down")

    db.execute("UPDATE webhook_events SET processed_at = NULL WHERE id = %s", [event])

    assert look(db, event, "dead_at, attempts, last_error, replays") == (None, 0, None, 1)
    process(db)
    assert seen == [(event, 1, 1)]


def test_a_replayed_event_has_nothing_left_of_its_earlier_life(db):
    earlier: dict[str, Any] = {
        "attempts": 2, "crashes": 2, "suspect": True, "parked": True, "yields_at": "2026-01-01", "lease": 7,
        "seconds": 1.5, "handler_version": "v1", "last_error": "was down", "dead_at": "2026-01-01",
    }  # fmt: skip
    replayed, new = add(db, **earlier), add(db)

    db.execute("UPDATE webhook_events SET processed_at = NULL WHERE id = %s", [replayed])

    columns = ", ".join(earlier)
    assert look(db, replayed, columns) == look(db, new, columns)


def test_an_event_that_waits_to_be_retried_is_due_at_once(db, seen):
    event = add(db, attempts=3, last_error="was down", next_attempt_at="2100-01-01")

    db.execute("UPDATE webhook_events SET processed_at = NULL WHERE id = %s", [event])
    process(db)

    assert seen == [(event, 1, 1)]


def test_an_event_put_off_by_its_handler_is_due_at_once(db, seen):
    event = add(db, last_error="RetryLater: not yet", next_attempt_at="2100-01-01")

    db.execute("UPDATE webhook_events SET processed_at = NULL WHERE id = %s", [event])
    process(db)

    assert seen == [(event, 1, 1)]


def test_an_event_not_attempted_yet_is_not_counted_as_replayed(db):
    event = add(db)

    db.execute("UPDATE webhook_events SET processed_at = NULL")

    assert look(db, event, "replays") == (0,)


def test_setting_processed_at_skips_an_event(db, seen):
    waiting, dead = add(db), add(db, attempts=12, dead_at="2026-01-01", last_error="was down")

    db.execute("UPDATE webhook_events SET processed_at = now()")
    process(db)

    assert seen == []
    assert look(db, waiting, "outcome") == look(db, dead, "outcome") == ("skipped",)
    assert look(db, dead, "dead_at") == (None,)


def test_an_update_of_other_columns_replays_nothing(db):
    event = add(db)
    process(db)

    db.execute("UPDATE webhook_events SET last_error = 'looked at by hand'")

    assert look(db, event, "outcome, replays") == ("handled", 0)


def test_an_event_in_hand_is_replayed_after_its_commit(db, dsn, seen):
    event = add(db)
    with psycopg.connect(dsn, autocommit=True) as worker, psycopg.connect(dsn, autocommit=True) as operator:
        operator.execute("SET lock_timeout = '50ms'")
        with worker.transaction():
            worker.execute("SELECT id FROM webhook_events FOR UPDATE")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                operator.execute("UPDATE webhook_events SET processed_at = NULL")
            worker.execute("UPDATE webhook_events SET processed_at = now(), outcome = 'handled'")
        operator.execute("UPDATE webhook_events SET processed_at = NULL")

    process(db)
    assert seen == [(event, 1, 1)]
