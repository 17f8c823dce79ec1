"""Payment reminders whose call goes silent: what its silence, and its end after all, make of the rows."""

from datetime import timedelta

import pytest

from handlers import reminders
from processor.expect import raise_overdue
from tests.arrivals import connection, db, shipped
from tests.inbox import look, process
from tests.reminders import (
    ANSWERED,
    AT,
    COMPLETED,
    EXPECTED,
    FAILED,
    NOT_CONNECTED,
    REACHED,
    TIMED_OUT,
    UNREACHED,
    armed,
    dispatch,
    make,
    replay,
    row,
    silence,
    tell,
    time_out,
)

__all__ = ["connection", "db", "shipped"]

pytestmark = pytest.mark.usefixtures("shipped")


@pytest.mark.parametrize("status", ["in_progress", "processing"])
def test_a_reminder_that_hears_nothing_for_ten_minutes_is_failed_and_tried_again(db, status):
    make(db, status=status)
    assert armed(db) == EXPECTED

    time_out(db)

    (due_at,) = db.execute("SELECT occurred_at FROM webhook_events WHERE event_type = 'reminder.timeout'").fetchone()
    assert row(db) == ("failed", None, TIMED_OUT, None, 1, due_at + timedelta(hours=1))
    assert armed(db) == []


def test_before_ten_minutes_are_over_nothing_happens(db):
    make(db)
    moved = "UPDATE webhook_expectations SET armed_at = armed_at - %(by)s, due_at = due_at - %(by)s"
    db.execute(moved, {"by": timedelta(minutes=5)})

    process(db)

    assert row(db, "status") == "in_progress"


def test_a_timeout_is_an_event_of_the_inbox_like_any_other(db):
    make(db)

    time_out(db)

    columns = "source, provider, event_type, subject, outcome, payload->>'expected_within_seconds'"
    assert look(db, 1, columns) == ("inbox", "inbox", "reminder.timeout", "reminder/rem_1", "handled", "600")


def test_a_plain_update_arms_the_timeout_and_another_disarms_it(db):
    make(db, status="pending")
    assert armed(db) == []

    dispatch(db)
    assert armed(db) == EXPECTED

    db.execute("UPDATE reminders SET status = 'pending'")
    assert armed(db) == []


def test_an_answer_arms_the_timeout_anew(db):
    make(db)
    silence(db)

    tell(db, ANSWERED, 1)
    process(db)
    process(db)

    assert row(db, "status") == "processing"
    assert db.execute("SELECT due_at > now() FROM webhook_expectations").fetchall() == [(True,)]


@pytest.mark.parametrize(("what", "status"), [(COMPLETED, "completed"), (UNREACHED, "pending"), (FAILED, "failed")])
def test_the_real_event_beats_a_timeout_that_is_due(db, what, status):
    make(db)
    silence(db)

    tell(db, what, 1)
    process(db)
    process(db)

    assert row(db, "status, outcome") == (status, what[1])
    assert db.execute("SELECT FROM webhook_events WHERE event_type = 'reminder.timeout'").fetchall() == []


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (COMPLETED, ("completed", REACHED, None, None, 0, None)),
        (UNREACHED, ("pending", NOT_CONNECTED, None, None, 1, AT + timedelta(minutes=72))),
        (FAILED, ("failed", NOT_CONNECTED, "no_answer", None, 0, None)),
        (ANSWERED, ("processing", None, None, None, 0, None)),
    ],
    ids=["completed", "unreached", "failed", "answered"],
)
@pytest.mark.parametrize("minute", [12, None])
def test_the_real_event_still_counts_after_the_timeout_and_the_call_is_one(db, what, expected, minute):
    make(db)
    time_out(db)

    event = tell(db, what, minute)
    process(db)

    if minute is None:
        expected = (*expected[:5], expected[5] and look(db, event, "received_at + interval '1 hour'")[0])
    assert row(db) == expected


def test_a_timeout_that_was_raised_before_the_end_came_changes_nothing_after_it(db):
    make(db)
    end = tell(db, COMPLETED, 1)
    process(db)
    db.execute("SELECT webhook_emit('default', 'reminder.timeout', 'reminder/rem_1', 'x', '{}', now())")

    process(db)

    assert look(db, end, "outcome") == ("handled",)
    assert row(db) == ("completed", REACHED, None, None, 0, None)


def test_a_replayed_timeout_does_not_end_the_next_call(db):
    make(db)
    time_out(db)
    dispatch(db)

    replay(db, 1)

    assert row(db, "status, retry_count") == ("in_progress", 1)
    assert armed(db) == EXPECTED


def test_a_timeout_that_waited_until_the_next_call_was_dispatched_does_not_end_it(db):
    make(db)
    silence(db)
    raise_overdue(db)
    db.execute("UPDATE reminders SET status = 'pending'")
    dispatch(db)

    process(db)

    assert row(db, "status, retry_count") == ("in_progress", 0)


def test_timeouts_are_tried_again_as_often_as_unanswered_calls(db):
    make(db)
    for call in range(reminders.RETRIES_MAX):
        time_out(db)
        assert row(db, "status, retry_count, next_retry_at IS NULL") == ("failed", call + 1, False)
        dispatch(db)

    time_out(db)

    assert row(db, "status, skip_reason, next_retry_at") == ("failed", TIMED_OUT, None)
