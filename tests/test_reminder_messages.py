"""Payment reminders by SMS: what Twilio's callbacks make of the rows."""

from itertools import permutations

import pytest

from tests.arrivals import connection, db, shipped
from tests.inbox import look, process
from tests.reminders import armed, call_back, make, row

__all__ = ["connection", "db", "shipped"]

pytestmark = pytest.mark.usefixtures("shipped")


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        ("delivered", None, ("completed", None)),
        ("read", None, ("completed", None)),
        ("failed", "30003", ("failed", "30003")),
        ("undelivered", "30005", ("failed", "30005")),
        ("sent", None, ("in_progress", None)),
        ("queued", None, ("in_progress", None)),
    ],
)
def test_an_sms_ends_its_reminder_as_it_ends(db, status, error, expected):
    make(db, channel="sms", external_id="SM1")

    call_back(db, status, error)
    process(db)

    assert row(db, "status, error_code") == expected


def test_an_sms_of_nobodys_reminder_is_kept_and_changes_none(db):
    make(db, channel="sms", external_id="SM1")

    event = call_back(db, "failed", "30003", message="SM2")
    process(db)

    assert look(db, event, "outcome") == ("handled",)
    assert db.execute("SELECT message_id, state, error_code FROM messages").fetchall() == [("SM2", "failed", "30003")]
    assert row(db, "status") == "in_progress"


def test_an_sms_ends_no_reminder_by_call_that_bears_its_id(db):
    make(db, external_id="SM1")

    event = call_back(db, "failed", "30003")
    process(db)

    assert look(db, event, "outcome") == ("handled",)
    assert row(db, "status, error_code") == ("in_progress", None)


@pytest.mark.parametrize(("status", "expected"), [("delivered", "completed"), ("undelivered", "failed")])
def test_a_callback_that_came_before_the_message_sid_was_written_counts_once_it_is(db, status, expected):
    make(db, channel="sms")
    call_back(db, status)
    process(db)
    assert row(db, "status") == "in_progress"

    db.execute("UPDATE reminders SET external_id = 'SM1' WHERE reminder_id = 'rem_1'")
    process(db)

    assert row(db, "status") == expected


def test_an_sms_that_was_sent_again_follows_its_new_message_alone(db):
    make(db, channel="sms", external_id="SM1")
    call_back(db, "failed", "30003")
    process(db)
    db.execute("UPDATE reminders SET status = 'in_progress', external_id = 'SM2' WHERE reminder_id = 'rem_1'")
    process(db)
    assert row(db, "status") == "in_progress"

    call_back(db, "undelivered", "30005")
    call_back(db, "delivered", message="SM2")
    process(db)

    assert row(db, "status, error_code") == ("completed", None)


def test_an_sms_is_not_timed(db):
    make(db, channel="sms", external_id="SM1")

    assert armed(db) == []


STORY = [("queued", None), ("sent", None), ("delivered", None)]


@pytest.mark.parametrize("order", list(permutations(STORY)), ids=lambda order: "-".join(status for status, _ in order))
def test_an_sms_ends_its_reminder_in_whatever_order_its_callbacks_come(db, order):
    make(db, channel="sms", external_id="SM1")

    for status, error in order:
        call_back(db, status, error)
        process(db)

    assert row(db, "status, error_code") == ("completed", None)
