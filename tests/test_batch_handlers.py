"""Handlers that are given several events at once: in their order, and one bad event fails alone."""

import logging

import psycopg
import pytest

from processor import Discard, RetryLater, on
from processor.loop import BATCH_SIZE
from processor.rehearse import rehearse
from tests.handler_fixtures import effects, no_handlers, work, write
from tests.inbox import add, look, process
from tests.processes import processor, wait_for

__all__ = ["effects", "no_handlers", "work"]

INSERT = "INSERT INTO effects SELECT event, 'done' FROM unnest(%s::bigint[]) AS event"


def has_bad(events):
    return any(event.event_id == "bad" for event in events)


def fail_at_bad(events):
    if has_bad(events):
        raise ZeroDivisionError


@pytest.fixture
def calls():
    """The ids that each call of a handler got."""
    return []


@pytest.fixture
def insert(calls):
    """Register a batch handler that inserts a row an event, and then does what a function says."""

    def register(then=lambda events: None, **options):
        @on("call.ringing", batch=True, **options)
        def handle(events, conn):
            ids = [event.id for event in events]
            calls.append(ids)
            conn.execute(INSERT, [ids])
            return then(events)

    return register


def test_a_batch_handler_gets_all_events_of_a_batch_at_once(db, effects, calls, insert):
    insert()
    events = [add(db) for _ in range(3)]

    totals = process(db)

    assert calls == [events]
    assert effects() == [(event, "done") for event in events]
    assert totals.handled == 3


def test_it_gets_no_more_than_a_batch_has(db, calls, insert):
    insert()
    for _ in range(BATCH_SIZE + 1):
        add(db)
    db.execute("CREATE TABLE effects (event bigint, note text)")
    try:
        process(db)
    finally:
        db.execute("DROP TABLE effects")

    assert sorted(map(len, calls)) == [1, BATCH_SIZE]


def test_a_single_event_is_a_list_of_one(db, effects, calls, insert):
    insert()
    event = add(db)

    process(db)

    assert calls == [[event]]
    assert look(db, event, "outcome, attempts") == ("handled", 1)


def test_the_events_of_a_subject_come_in_their_order(db, effects, calls, insert):
    insert()
    events = [add(db, subject="call/1"), add(db, subject="call/2"), add(db, subject="call/1")]

    process(db)

    assert calls == [events]


def test_an_event_behind_another_of_its_subject_that_is_for_somebody_else_waits_for_that(db, effects, calls, insert):
    on("call.answered")(lambda event, conn: calls.append(event.id))
    insert()
    first, other = add(db, subject="call/1"), add(db, subject="call/2")
    between = add(db, "call.answered", subject="call/1")
    last, without = add(db, subject="call/1"), add(db, subject=None)

    process(db)

    assert calls == [[first, other, without], between, [last]]


def test_one_bad_event_fails_alone_and_is_counted_alone(db, effects, calls, insert):
    insert(fail_at_bad)
    first, bad, last = add(db), add(db, event_id="bad"), add(db)

    process(db)

    assert calls == [[first, bad, last], [first], [bad], [last]]
    assert effects() == [(first, "done"), (last, "done")]
    assert look(db, bad, "processed_at, attempts, left(last_error, 17)") == (None, 1, "ZeroDivisionError")
    assert db.execute("SELECT event_id FROM webhook_attempts").fetchall() == [(bad,)]
    assert [look(db, event, "outcome, attempts") for event in (first, last)] == [("handled", 1)] * 2


def test_those_that_failed_together_are_in_no_other_set_of_their_batch(db, effects, calls, insert):
    on("call.answered")(lambda event, conn: calls.append(event.id))
    insert(fail_at_bad)
    first = add(db, subject="call/1")
    between, later = add(db, "call.answered", subject="call/1"), add(db, subject="call/1")
    bad, last = add(db, event_id="bad"), add(db)

    process(db)

    assert calls == [[first, bad, last], [first], between, [later], [bad], [last]]


def test_a_statement_that_fails_for_all_is_run_for_each(db, effects, calls):
    @on("call.ringing", batch=True)
    def handle(events, conn):
        calls.append(len(events))
        conn.execute("INSERT INTO effects SELECT 1 / (event - %s), 'done' FROM unnest(%s::bigint[]) AS event",
                     [bad, [event.id for event in events]])  # fmt: skip

    bad, good = add(db, event_id="bad"), add(db)

    process(db)

    assert calls == [2, 1, 1]
    assert effects() == [(1, "done")]
    assert look(db, bad, "last_error") == ("DivisionByZero: 22012",)
    assert look(db, good, "outcome") == ("handled",)


def test_behind_an_event_that_failed_its_subject_waits(db, effects, calls, insert):
    insert(fail_at_bad)
    bad, behind, other = add(db, subject="call/1", event_id="bad"), add(db, subject="call/1"), add(db)

    process(db)

    assert calls == [[bad, behind, other], [bad], [other]]
    assert look(db, behind, "outcome, attempts") == (None, 0)


def test_an_event_whose_subject_has_failed_in_this_batch_is_left_out(db, effects, calls, insert):
    on("call.answered")(lambda event, conn: 1 / 0)
    insert()
    add(db, "call.answered", subject="call/1")
    other, behind, another = add(db), add(db, subject="call/1"), add(db)

    process(db)

    assert calls == [[other, another]]
    assert look(db, behind, "outcome, attempts") == (None, 0)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(RetryLater(600), (0, False, "RetryLater")), (Discard("no such call"), (1, True, "Discard: n"))],
)
def test_an_answer_that_is_raised_is_meant_for_the_one_event_that_gets_it_alone(db, effects, insert, answer, expected):
    def reply(events):
        if has_bad(events):
            raise answer

    insert(reply)
    bad, good = add(db, event_id="bad"), add(db)

    process(db)

    assert effects() == [(good, "done")]
    assert look(db, bad, "attempts, dead_at IS NOT NULL, left(last_error, 10)") == expected
    assert look(db, good, "outcome") == ("handled",)


def test_an_answer_that_is_returned_is_meant_all_the_same(db, effects, insert):
    insert(lambda events: RetryLater(600) if has_bad(events) else None)
    bad, good = add(db, event_id="bad"), add(db)

    process(db)

    assert effects() == [(good, "done")]
    assert look(db, bad, "attempts, processed_at") == (0, None)


def test_a_rehearsal_gives_it_each_event_alone(db, dsn, effects, calls, insert):
    insert()
    events = [add(db), add(db)]

    rehearsed = list(rehearse(lambda: psycopg.connect(dsn), events))

    assert calls == [[event] for event in events]
    assert [one.result for one in rehearsed] == ["handled"] * 2


def test_max_attempts_is_an_events_own(db, effects, insert):
    insert(fail_at_bad, max_attempts=1)
    bad, good = add(db, event_id="bad"), add(db)

    process(db)

    assert look(db, bad, "attempts, dead_at IS NOT NULL") == (1, True)
    assert look(db, good, "outcome") == ("handled",)


def test_with_skip_after_a_failed_one_yields_to_those_behind_it(db, effects, insert):
    insert(fail_at_bad, skip_after=0)
    bad, behind = add(db, subject="call/1", event_id="bad"), add(db, subject="call/1")

    process(db)
    process(db)

    assert look(db, bad, "processed_at, attempts") == (None, 1)
    assert look(db, behind, "outcome") == ("handled",)


def test_an_event_that_has_other_handlers_too_comes_alone(db, effects, calls, insert):
    insert()
    on("call.ringing", source="eu")(lambda event, conn: write(event, conn, "second"))
    first, both, last = add(db), add(db, source="eu"), add(db)

    process(db)

    assert calls == [[first, last], [both]]
    assert effects() == [(first, "done"), (both, "done"), (both, "second"), (last, "done")]


def test_a_handler_that_changes_its_list_changes_nothing(db, effects, insert, calls):
    @on("call.ringing", batch=True)
    def handle(events, conn):
        events.clear()

    events = [add(db), add(db)]

    process(db)

    assert [look(db, event, "outcome") for event in events] == [("handled",)] * 2


def test_what_a_failed_set_did_to_a_payload_is_not_seen_by_its_events_alone(db, effects, work):
    @on("call.ringing", batch=True)
    def take(events, conn):
        for event in events:
            note = event.payload.pop("CallSid")
            conn.execute("INSERT INTO effects VALUES (%s, %s)", [event.id, note])
        if bad in [event.id for event in events]:
            raise ValueError

    good, bad = add(db, subject="call/CA1"), add(db, subject="call/CA2")

    work()

    assert effects() == [(good, "CA1")]
    assert look(db, bad, "attempts, last_error") == (1, "ValueError")


def test_a_set_that_ends_its_transaction_makes_its_events_run_alone(db, effects, calls, work):
    @on("call.ringing", batch=True)
    def handle(events, conn):
        calls.append(len(events))
        conn.execute(INSERT, [[event.id for event in events]])
        if len(events) > 1:
            conn.execute("ROLLBACK")

    events = [add(db), add(db)]

    work()

    assert calls == [2, 1, 1]
    assert effects() == [(event, "done") for event in events]
    assert [look(db, event, "outcome, attempts, crashes") for event in events] == [("handled", 1, 0)] * 2


def test_that_a_set_was_taken_apart_is_logged(db, effects, insert, caplog):
    insert(lambda events: 1 / 0 if len(events) > 1 else None)
    first = add(db)
    add(db)

    with caplog.at_level(logging.WARNING, "processor"):
        process(db)

    (line,) = caplog.messages
    assert line.startswith(f"events taken apart count=2 first={first} handler=")
    assert line.endswith(" cause=ZeroDivisionError")


def test_each_event_has_its_line_and_its_share_of_the_time(db, effects, insert, caplog):
    insert()
    events = [add(db), add(db)]

    with caplog.at_level(logging.INFO, "processor"):
        process(db)

    assert [line.split(" ms=")[0] for line in caplog.messages] == [
        f"event handled id={event} type=call.ringing attempt=1" for event in events
    ]
    assert look(db, events[0], "seconds") == look(db, events[1], "seconds")


def test_a_handler_that_is_outside_has_no_batch():
    with pytest.raises(TypeError, match="@on: expected outside or batch, got both"):
        on("call.ringing", outside=True, batch=True)


def test_a_handler_of_another_shape_is_told_which(no_handlers):
    with pytest.raises(TypeError, match=r"\(events, conn\)"):
        on("call.ringing", batch=True)(lambda events: None)


@pytest.mark.parametrize(("kind", "error"), [("batch.kill", "Crash"), ("batch.sleep", "Timeout")])
def test_a_set_that_ends_its_worker_or_never_ends_blames_none_but_who_does_so_alone(fresh_dsn, kind, error):
    with (
        psycopg.connect(fresh_dsn, autocommit=True) as conn,
        processor(fresh_dsn, "--interval", "0.05", "--handlers", "tests.poison_handlers"),
    ):
        conn.execute("CREATE TABLE effects (event bigint)")
        with conn.transaction():
            before, bad, after = add(conn, kind), add(conn, kind, event_id="bad"), add(conn, kind)
        wait_for(lambda: look(conn, bad, "attempts") == (1,))
        wait_for(lambda: conn.execute("SELECT count(*) FROM effects").fetchone() == (2,))

        assert look(conn, bad, "split_part(last_error, ':', 1), processed_at") == (error, None)
        for event in (before, after):
            assert look(conn, event, "outcome, attempts, crashes, suspect") == ("handled", 1, 0, False)
