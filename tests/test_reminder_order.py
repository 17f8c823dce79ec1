"""Payment reminders in whatever order their events come, and replayed: the rows end as the same."""

from itertools import permutations

import pytest

from handlers import reminders
from tests.arrivals import connection, db, shipped
from tests.inbox import process
from tests.reminders import (
    ANSWERED,
    CALL_ENDS,
    COMPLETED,
    FAILED,
    NOT_CONNECTED,
    NUMBERS,
    TIMED_OUT,
    UNREACHED,
    Told,
    armed,
    dispatch,
    make,
    replay,
    row,
    tell,
    time_out,
)

__all__ = ["connection", "db", "shipped"]

pytestmark = pytest.mark.usefixtures("shipped")


FIRST: list[tuple[Told, int]] = [(ANSWERED, 1), (UNREACHED, 2)]
SECOND: list[tuple[Told, int]] = [(ANSWERED, 61), (COMPLETED, 62)]
STORIES: dict[str, list[tuple[Told, int]]] = {
    "completed": [(ANSWERED, 1), (COMPLETED, 2)],
    "unreached": FIRST,
    "failed": [(ANSWERED, 1), (FAILED, 2)],
    "told all at one time": [(ANSWERED, 1), (UNREACHED, 1), (FAILED, 1), (COMPLETED, 1)],
    "unreached and failed at one time": [(ANSWERED, 1), (UNREACHED, 1), (FAILED, 1)],
    "under way again": [*FIRST, (ANSWERED, 61)],
    "called again": [*FIRST, *SECOND],
    "failed and called again": [(ANSWERED, 1), (FAILED, 2), *SECOND],
    "unreached after it was completed": [(COMPLETED, 1), (ANSWERED, 2), (UNREACHED, 3)],
    "never reached": [(UNREACHED, 60 * call) for call in range(reminders.RETRIES_MAX + 1)],
    "reached at last": [*((UNREACHED, 60 * call) for call in range(3)), (COMPLETED, 200)],
}
TIMELESS = {name: STORIES[name] for name in ("completed", "unreached", "failed", "unreached and failed at one time")}


def ends(db, story, orders, *, timed=True):
    """Return the rows that a story ends as, a reminder an order; without times only whether it is tried again."""
    found = set()
    for order in orders:
        reminder = f"rem_{next(NUMBERS)}"
        make(db, reminder)
        for what, minute in order:
            tell(db, what, minute if timed else None, reminder)
        process(db)
        *seen, outcome, retry = row(
            db, f"status, skip_reason, retry_count, last_event_at, outcome, next_retry_at{'' if timed else ' IS NULL'}",
            reminder,
        )  # fmt: skip
        found.add((*seen, str(outcome), retry))
    return found


@pytest.mark.parametrize("name", STORIES)
def test_in_whatever_order_the_events_come_the_reminder_ends_as_in_theirs(db, name):
    story = STORIES[name]

    assert ends(db, story, permutations(story)) == ends(db, story, [story])


@pytest.mark.parametrize("name", TIMELESS)
def test_an_agent_that_tells_no_times_ends_it_alike_as_well(db, name):
    story = STORIES[name]

    assert ends(db, story, permutations(story), timed=False) == ends(db, story, [story], timed=False)


@pytest.mark.parametrize("name", STORIES)
@pytest.mark.parametrize("timed", [True, False])
def test_replayed_events_change_nothing(db, name, timed):
    make(db)
    told = [tell(db, what, minute if timed else None) for what, minute in STORIES[name]]
    process(db)
    before = row(db, "*")

    for event in told:
        replay(db, event)
    assert row(db, "*") == before

    db.execute("UPDATE webhook_events SET processed_at = NULL")
    process(db)
    assert row(db, "*") == before


def test_of_two_ends_alike_at_one_time_the_one_stored_later_counts_also_when_the_other_is_replayed(db):
    make(db)
    first = tell(db, ("call_failed", {"customer_response": "hung_up"}), 1)
    tell(db, ("call_failed", {"customer_response": "refused"}), 1)
    process(db)

    replay(db, first)

    assert row(db, "skip_reason") == "refused"


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("what", [ANSWERED, COMPLETED, UNREACHED, FAILED], ids=CALL_ENDS)
def test_a_replayed_event_of_the_call_before_leaves_the_new_call_and_its_timeout_alone(db, what, timed):
    make(db)
    event = tell(db, what, 1 if timed else None)
    process(db)
    dispatch(db)
    before = row(db, "*")
    expected = db.execute("SELECT * FROM webhook_expectations").fetchall()

    replay(db, event)

    assert row(db, "*") == before
    assert db.execute("SELECT * FROM webhook_expectations").fetchall() == expected


@pytest.mark.parametrize("what", [ANSWERED, UNREACHED, FAILED], ids=["answered", "unreached", "failed"])
def test_a_late_event_of_the_call_before_leaves_the_new_call_and_its_timeout_alone(db, what):
    make(db)
    tell(db, UNREACHED, 5)
    process(db)
    dispatch(db)
    expected = db.execute("SELECT * FROM webhook_expectations").fetchall()

    tell(db, what, 3)
    process(db)

    assert row(db, "status, outcome") == ("in_progress", NOT_CONNECTED)
    assert db.execute("SELECT * FROM webhook_expectations").fetchall() == expected


def test_an_answer_replayed_after_the_timeout_is_no_sign_of_life(db):
    make(db)
    event = tell(db, ANSWERED, 1)
    process(db)
    time_out(db)

    replay(db, event)

    assert row(db, "status, skip_reason, retry_count") == ("failed", TIMED_OUT, 1)
    assert armed(db) == []


def test_an_end_replayed_by_handlers_that_understand_it_otherwise_is_corrected(db, monkeypatch):
    make(db)
    event = tell(db, ("call_completed", {"connected": True, "customer_response": "voicemail"}), 1)
    process(db)
    assert row(db, "status, retry_count") == ("pending", 1)

    monkeypatch.setattr(reminders, "NOT_REACHED", ())
    replay(db, event)

    assert row(db, "status, retry_count, next_retry_at") == ("completed", 0, None)
