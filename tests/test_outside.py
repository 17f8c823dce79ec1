"""Handlers that call other services: in no transaction, many at a time, at least once, and written once."""

import threading
import time

import pytest

from processor import Discard, RetryLater, on, operations
from tests.handler_fixtures import effects
from tests.inbox import add, look, make_due, process
from tests.outside_fixtures import called, work
from tests.processes import DEADLINE, wait_for

__all__ = ["called", "effects", "work"]


def test_an_outside_handler_gets_the_event_alone_and_no_transaction_is_open_meanwhile(db, called, work):
    @on("call.completed", outside=True)
    def push(event):
        # Others come and go meanwhile: its worker looks for more.
        older = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%%' AND xact_start < %s"
        now = db.execute("SELECT clock_timestamp()").fetchone()
        wait_for(lambda: db.execute(older, now).fetchone() == (0,))
        called.append(event.id)

    event = add(db, "call.completed")

    work()

    assert called == [event]
    columns = "outcome, attempts, lease, seconds IS NOT NULL, handler_version IS NOT NULL"
    assert look(db, event, columns) == ("handled", 1, None, True, True)


def test_what_it_returns_to_be_written_is_committed_with_processed_at(db, called, effects, work):
    @on("call.completed", outside=True)
    def summarize(event):
        summary = f"summary of {event.key}"
        return lambda conn: conn.execute("INSERT INTO effects VALUES (%s, %s)", (event.id, summary))

    event = add(db, "call.completed")

    work()

    assert effects() == [(event, "summary of twilio:event-1:0")]


def test_other_handlers_of_the_event_run_after_it_in_one_transaction_with_what_it_returned(db, called, effects, work):
    @on("call.completed")
    def write(event, conn):
        conn.execute("INSERT INTO effects VALUES (%s, 'inside')", [event.id])
        if event.attempt == 1:
            raise ConnectionError

    @on("call.completed", outside=True)
    def push(event):
        called.append(event.attempt)
        return lambda conn: conn.execute("INSERT INTO effects VALUES (%s, 'outside')", [event.id])

    event = add(db, "call.completed")

    work()
    assert effects() == []
    assert look(db, event, "attempts, last_error, lease") == (1, "ConnectionError", None)

    make_due(db)
    work()
    assert effects() == [(event, "inside"), (event, "outside")]
    assert called == [1, 2]


def test_its_key_is_the_same_at_each_attempt_and_another_after_a_replay(db, called, work):
    @on("call.completed", outside=True)
    def push(event):
        called.append(event.key)
        if len(called) == 1:
            raise ConnectionError

    event = add(db, "call.completed")
    work()
    make_due(db)
    work()
    operations.replay(db, [event])
    work()

    assert called == ["twilio:event-1:0", "twilio:event-1:0", "twilio:event-1:1"]


def test_its_failures_wait_and_die_as_any_handlers_do(db, called, work):
    @on("call.completed", outside=True, max_attempts=2)
    def push(event):
        raise ConnectionError("crm is down")

    event = add(db, "call.completed")

    work()
    assert look(db, event, "attempts, dead_at, last_error") == (1, None, "ConnectionError: crm is down")
    make_due(db)
    work()

    assert look(db, event, "attempts, dead_at IS NOT NULL, lease") == (2, True, None)
    rows = "SELECT attempt, result, error FROM webhook_attempts ORDER BY id"
    error = "ConnectionError: crm is down"
    assert db.execute(rows).fetchall() == [(1, "retry", error), (2, "dead", error)]


@pytest.mark.parametrize("answer", [RetryLater(600), Discard("no such customer")])
def test_it_answers_as_any_handler_does(db, called, work, answer):
    on("call.completed", outside=True)(lambda event: answer)
    event = add(db, "call.completed")

    work()

    dead = isinstance(answer, Discard)
    assert look(db, event, "attempts, dead_at IS NOT NULL, processed_at") == (int(dead), dead, None)


def test_a_subjects_events_follow_one_another_also_across_inside_and_outside(db, called, work):
    @on("call.completed", outside=True)
    def push(event):
        called.append(("began", event.id))
        time.sleep(0.05)
        called.append(("ended", event.id))

    on("call.ringing")(lambda event, conn: called.extend([("began", event.id), ("ended", event.id)]))
    kinds = ["call.completed", "call.ringing", "call.completed", "call.completed", "call.ringing"]
    events = [add(db, kind, subject="call/1") for kind in kinds]

    work()

    assert called == [(what, event) for event in events for what in ("began", "ended")]


def test_many_run_at_once(db, called, work):
    together = threading.Barrier(8, timeout=20)
    on("call.completed", outside=True)(lambda event: together.wait())
    events = [add(db, "call.completed") for _ in range(8)]

    work(concurrency=8)

    assert [look(db, event, "outcome") for event in events] == [("handled",)] * 8


def test_its_writes_may_do_wrong_and_harm_nobody_else(db, called, effects, work):
    @on("call.completed", outside=True)
    def push(event):
        called.append(event.id)
        together.wait()

        def write(conn):
            conn.execute("INSERT INTO effects VALUES (%s, '')", [event.id])
            if event.id == bad:
                conn.execute("COMMIT")

        return write

    together = threading.Barrier(3, timeout=20)
    first, bad, last = (add(db, "call.completed") for _ in range(3))

    work()

    assert effects() == [(first, ""), (last, "")]
    assert sorted(called) == [first, bad, last]
    assert look(db, bad, "processed_at, attempts, left(last_error, 25)") == (None, 1, "InvalidTransactionTermina")


def test_a_commit_refused_for_one_of_several_is_that_ones_alone(db, called, effects, work):
    db.execute(
        "CREATE TABLE owed (event bigint PRIMARY KEY, paid bigint REFERENCES owed DEFERRABLE INITIALLY DEFERRED)"
    )

    @on("call.completed", outside=True)
    def push(event):
        together.wait()
        paid = -1 if event.id == bad else event.id
        return lambda conn: conn.execute("INSERT INTO owed VALUES (%s, %s)", (event.id, paid))

    together = threading.Barrier(3, timeout=20)
    first, bad, last = (add(db, "call.completed") for _ in range(3))
    try:
        work()

        assert db.execute("SELECT event FROM owed ORDER BY event").fetchall() == [(first,), (last,)]
        assert look(db, bad, "attempts, left(last_error, 19)") == (1, "ForeignKeyViolation")
    finally:
        db.execute("DROP TABLE owed")


def test_what_a_worker_did_that_lost_its_lease_is_not_written(db, dsn, called, effects, work):
    @on("call.completed", outside=True)
    def push(event):
        called.append(event.attempt)
        if len(called) == 1:
            db.execute("UPDATE webhook_events SET lease = 0 WHERE id = %s", [event.id])
        return lambda conn: conn.execute("INSERT INTO effects VALUES (%s, %s)", (event.id, str(len(called))))

    event = add(db, "call.completed")

    work()
    assert effects() == []
    make_due(db)
    work()

    assert effects() == [(event, "2")]


@pytest.mark.parametrize("suspects", [(True, False), (False, True), (True, True)])
def test_a_suspect_runs_when_nothing_else_does(db, called, work, suspects):
    @on("call.completed", outside=True)
    def push(event):
        called.append("began")
        time.sleep(0.3)
        called.append("ended")

    for suspect in suspects:
        add(db, "call.completed", suspect=suspect)

    work()

    assert called == ["began", "ended", "began", "ended"]


def until(conn, event):
    return look(conn, event, "next_attempt_at")


def test_a_lease_is_prolonged_again_and_again_while_its_handler_runs(db, called, work, monkeypatch):
    monkeypatch.setattr("processor.outside.EXTEND_SECONDS", 3)

    @on("call.completed", outside=True)
    def push(event):
        for _ in range(2):
            before = until(db, event.id)
            wait_for(lambda before=before: until(db, event.id) > before)
            called.append(event.attempt)

    event = add(db, "call.completed")

    work()

    assert called == [1, 1]
    assert look(db, event, "outcome") == ("handled",)


def test_a_lease_that_another_worker_has_by_now_is_not_prolonged(db, called, work, monkeypatch):
    monkeypatch.setattr("processor.outside.EXTEND_SECONDS", 3)

    @on("call.completed", outside=True)
    def push(event):
        together.wait()
        if event.id == lost:
            db.execute("UPDATE webhook_events SET lease = 0, next_attempt_at = '2100-01-01' WHERE id = %s", [lost])
        together.wait()
        before = until(db, kept)
        wait_for(lambda: until(db, kept) > before)

    together = threading.Barrier(2, timeout=DEADLINE)
    lost, kept = add(db, "call.completed"), add(db, "call.completed")

    work()

    assert look(db, lost, "lease, next_attempt_at = '2100-01-01', processed_at") == (0, True, None)
    assert look(db, kept, "outcome") == ("handled",)


def test_what_a_handler_comes_to_after_its_timeout_is_not_counted(db, called, effects, work):
    @on("call.completed", outside=True, timeout=0.5)
    def push(event):
        if event.id == slow:
            wait_for(lambda: look(db, slow, "last_error IS NOT NULL") == (True,))
            late.set()
            return lambda conn: conn.execute("INSERT INTO effects VALUES (%s, 'late')", [event.id])
        return None

    @on("call.ringing", outside=True)
    def push_more(event):
        assert late.wait(DEADLINE)

    late = threading.Event()
    slow, other = add(db, "call.completed"), add(db, "call.ringing")

    work()

    assert effects() == []
    assert look(db, slow, "attempts, left(last_error, 7), processed_at") == (1, "Timeout", None)
    assert look(db, other, "outcome") == ("handled",)


def test_a_lapsed_lease_makes_a_suspect_and_one_that_lapsed_alone_is_blamed(db, called, work):
    on("call.completed", outside=True)(lambda event: RetryLater(600))
    first = add(db, "call.completed", lease=7, attempts=1)
    alone = add(db, "call.completed", lease=7, attempts=1, suspect=True)

    process(db, max_events=1)

    assert look(db, first, "lease, suspect, crashes") == (None, True, 0)
    columns = "lease, crashes, next_attempt_at > now(), left(last_error, 24)"
    assert look(db, alone, columns) == (None, 1, True, "Crash: its worker died, ")


def test_a_replay_while_it_runs_is_no_second_run_at_the_same_time(db, called, work):
    @on("call.completed", outside=True)
    def push(event):
        called.append(event.replays)
        if not event.replays:
            db.execute("UPDATE webhook_events SET processed_at = NULL WHERE id = %s", [event.id])

    event = add(db, "call.completed")
    work()

    assert called == [0, 1], "the second after the first"
    assert look(db, event, "outcome, replays") == ("handled", 1)


def test_an_event_without_subject_goes_to_its_outside_handler_as_well(db, called, work):
    on("call.completed", outside=True)(lambda event: called.append(event.id))
    event = add(db, "call.completed", subject=None)

    work()

    assert called == [event]
    assert look(db, event, "outcome, attempts") == ("handled", 1)


def test_an_outside_handler_takes_the_event_alone():
    with pytest.raises(TypeError, match=r"expected def .*push\(event\), since it is outside"):

        @on("call.completed", outside=True)
        def push(event, conn):
            pass
