"""How far a claim looks: past what is done, back now and then, and no further as the past grows."""

import time

import psycopg
import pytest

from benchmarks import claim_cost
from processor import on, registry
from processor.cursor import START, Cursor
from processor.loop import Processor
from processor.session import Session
from tests.inbox import add, look


@pytest.fixture
def worker(db, monkeypatch):
    monkeypatch.setattr(registry, "HANDLERS", [])
    on("call.ringing")(lambda event, conn: None)
    return Processor(lambda: db)


OLD = "2026-01-01"


def not_due_for_a_full_look(cursor):
    """However slow the machine."""
    cursor.started_at = time.monotonic() + 30


def test_a_claim_begins_where_the_last_one_ended(db, worker):
    add(db, next_attempt_at=OLD)
    worker.batch(Session(db, None), 50)
    not_due_for_a_full_look(worker.cursor)

    behind = add(db, next_attempt_at="2025-12-31")
    ahead = add(db, next_attempt_at="2026-01-02")
    worker.batch(Session(db, None), 50)

    assert look(db, behind, "outcome") == (None,)
    assert look(db, ahead, "outcome") == ("handled",)


def test_what_was_committed_late_behind_the_cursor_is_found_by_the_next_full_look(db, worker):
    add(db, next_attempt_at=OLD)
    worker.batch(Session(db, None), 50)
    not_due_for_a_full_look(worker.cursor)
    late = add(db, next_attempt_at="2025-12-31")

    batch = worker.batch(Session(db, None), 50)
    assert (batch.idle, batch.all_seen) == (True, False), "so the worker looks again soon, whatever its interval"

    worker.cursor.started_at -= 60
    worker.batch(Session(db, None), 50)
    assert look(db, late, "outcome") == ("handled",)


def test_the_last_three_seconds_are_always_looked_at(db, worker):
    add(db)
    worker.batch(Session(db, None), 50)
    not_due_for_a_full_look(worker.cursor)

    late = add(db, next_attempt_at=db.execute("SELECT now() - interval '1 second'").fetchone()[0])
    worker.batch(Session(db, None), 50)

    assert look(db, late, "outcome") == ("handled",)


def test_a_full_look_that_takes_long_comes_less_often_but_every_five_seconds():
    cursor = Cursor(after_at=OLD, took=10.0)

    cursor.started_at += 1  # so that this test may take a second
    cursor.started_at -= 5
    cursor.begin()
    assert cursor.after_at == OLD

    cursor.started_at -= 1
    cursor.begin()
    assert cursor.after_at == START


def test_an_old_snapshot_does_not_make_claims_dearer(fresh_dsn):
    with psycopg.connect(fresh_dsn, autocommit=True) as conn, psycopg.connect(fresh_dsn) as report:
        claim_cost.add(conn, "backlog", 4000 + 2 * claim_cost.BATCH * claim_cost.CLAIMS)
        claim_cost.settle(conn)
        before, _ = claim_cost.claim_cost(conn, Cursor())
        report.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        report.execute("SELECT count(*) FROM webhook_events")
        worker = claim_cost.drain(conn, 4000)

        after, _ = claim_cost.claim_cost(conn, worker.cursor)

    assert after <= 1.5 * before
