"""How far a claim looks: past what is done, back now and then, and no further as the past grows."""

import threading
import time
from contextlib import contextmanager

import psycopg
import pytest

from benchmarks import claim_cost
from processor import loop, on, registry
from processor.cursor import START, Cursor
from processor.loop import Processor
from processor.session import Session
from sql import load
from tests.inbox import add, look
from tests.processes import DEADLINE, wait_for

NEVER = 600  # seconds, an interval that no test lives to see the end of


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
    ahead = add(db)
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


def test_the_next_claim_begins_at_what_the_last_one_saw_and_did_not_take(db, worker):
    first, alone, last = add(db, next_attempt_at=OLD), add(db, next_attempt_at=OLD, suspect=True), add(db)

    taken = [[outcome.event.id for outcome in worker.batch(Session(db, None), 50).outcomes] for _ in range(2)]

    assert taken == [[first, last], [alone]]


def test_a_suspect_is_run_alone_also_amid_its_subject(db, worker):
    first = add(db, subject="call/1")
    suspect = add(db, subject="call/1", suspect=True)
    last = add(db, subject="call/1")

    taken = [[outcome.event.id for outcome in worker.batch(Session(db, None), 50).outcomes] for _ in range(3)]

    assert taken == [[first], [suspect], [last]], "or its crash would be blamed on nobody"


def test_a_claim_takes_the_oldest_events_with_those_of_their_subjects(db, worker):
    ids = [add(db, subject=f"call/{number // 50 * 10 + number % 10}") for number in range(100)]

    taken = [outcome.event.id for outcome in worker.batch(Session(db, None), 50).outcomes]

    assert taken == ids[:50], "ten subjects are read and locked for it, not fifty"


def test_a_subject_with_many_events_due_leaves_room_for_those_behind_it(db, worker):
    flood = [add(db, subject="call/1") for _ in range(60)]
    others = [add(db) for _ in range(40)]

    taken = [outcome.event.id for outcome in worker.batch(Session(db, None), 50).outcomes]

    assert taken == flood[:20] + others[:30]


def test_one_claim_parks_no_more_than_a_thousand_followers(db, worker):
    add(db, subject="call/1", next_attempt_at="2100-01-01")
    db.execute(
        "INSERT INTO webhook_events (source, provider, event_id, event_type, subject, payload)"
        " SELECT 'twilio', 'twilio', n, 'call.ringing', 'call/1', '{}' FROM generate_series(1, 1500) AS n"
    )

    worker.batch(Session(db, None), 50)

    assert db.execute("SELECT count(*) FROM webhook_events WHERE parked").fetchone() == (1000,)


def test_a_batch_ends_when_its_time_is_over_and_the_next_one_takes_what_it_left(db, worker, monkeypatch):
    monkeypatch.setattr(loop, "BATCH_SECONDS", -1.0)
    for _ in range(3):
        add(db, next_attempt_at=OLD)

    sizes = [len(worker.batch(Session(db, None), 50).outcomes) for _ in range(3)]

    assert sizes == [1, 1, 1]


@contextmanager
def at_work(dsn):
    """A worker that nobody wakes, and that its handler is to stop."""
    worker = Processor(lambda: psycopg.connect(dsn, autocommit=True), listen=False)
    thread = threading.Thread(target=worker.run, args=[NEVER], daemon=True)
    try:
        yield worker, thread
        thread.join(DEADLINE)
    finally:
        worker.stopping.set()


def test_what_is_committed_behind_the_cursor_is_found_long_before_the_interval_is_over(db, dsn, monkeypatch):
    monkeypatch.setattr(registry, "HANDLERS", [])
    first = add(db, next_attempt_at=OLD)

    with at_work(dsn) as (worker, thread):

        @on("call.ringing")
        def handle(event, conn):
            if event.id == first:
                add(db, next_attempt_at="2025-12-31")
            else:
                worker.stopping.set()

        thread.start()

    assert db.execute("SELECT count(*) FROM webhook_events WHERE outcome = 'handled'").fetchone() == (2,)


def test_an_event_that_somebody_else_had_locked_is_taken_long_before_the_interval_is_over(db, dsn, monkeypatch):
    monkeypatch.setattr(registry, "HANDLERS", [])
    event = add(db)

    with psycopg.connect(dsn) as other, at_work(dsn) as (worker, thread):
        on("call.ringing")(lambda event, conn: worker.stopping.set())
        other.execute("SELECT FROM webhook_events FOR UPDATE")
        thread.start()
        wait_for(lambda: worker.run_id > 0)  # it has looked
        other.rollback()

    assert look(db, event, "outcome") == ("handled",)


def test_how_long_a_full_look_takes_is_measured():
    cursor = Cursor()
    cursor.begin()
    cursor.started_at -= 0.5

    cursor.end(OLD, 0, more=False)
    cursor.started_at -= 1
    cursor.begin()

    assert cursor.after_at == OLD


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


@pytest.fixture
def unknown(fresh_dsn):
    """Connection to an inbox with 10,000 events, each of another call: the planner knows nothing of them."""
    with psycopg.connect(fresh_dsn, autocommit=True) as conn:
        conn.execute("ALTER TABLE webhook_events SET (autovacuum_enabled = false)")
        conn.execute(
            "INSERT INTO webhook_events (source, provider, event_id, event_type, subject, payload, next_attempt_at)"
            " SELECT 'twilio', 'twilio', n, %s, 'call/' || repeat(md5(n::text), 3), '{}', now() - interval '1 s' / n"
            " FROM generate_series(1, 10000) AS n",
            [claim_cost.TYPE],
        )
        yield conn


def test_a_claim_is_no_dearer_before_the_table_was_ever_analyzed(unknown):
    before, _ = claim_cost.claim_cost(unknown, Cursor())
    claim_cost.settle(unknown)
    after, _ = claim_cost.claim_cost(unknown, Cursor())

    assert before <= 2 * after


def test_a_completion_is_no_dearer_before_the_table_was_ever_analyzed(unknown):
    names = {"ids": list(range(1, 51)), "outcome": "handled", "durations": [0.1] * 50, "versions": ["1"] * 50}

    def pages():
        with unknown.transaction(force_rollback=True):
            explained = unknown.execute(b"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + load("mark_processed"), names)
            ((plan,),) = explained.fetchone()
        return plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]

    before = pages()
    claim_cost.settle(unknown)

    assert before <= 2 * pages()
