"""A call that tells of no end: 4 hours after it last moved the inbox ends it, and the provider's word still counts."""

from datetime import timedelta

import pytest

from tests.arrivals import arrive, connection, db, form, sample, sent, shipped
from tests.inbox import look, process

__all__ = ["connection", "db", "shipped"]

pytestmark = pytest.mark.usefixtures("shipped")

FOUR_HOURS = timedelta(hours=4)
MOVE = "UPDATE webhook_expectations SET armed_at = armed_at - %(by)s, due_at = due_at - %(by)s"


def tell(db, status, at=None):
    fields = {"CallSid": "CA1", "CallStatus": status} | ({"Timestamp": at} if at else {})
    (event,) = arrive(db, "twilio", form(fields, "/webhooks/twilio/voice/status"))
    process(db)
    return event


def time_out(db):
    db.execute(MOVE, {"by": FOUR_HOURS + timedelta(seconds=1)})
    process(db)


def state(db, columns="state"):
    (found,) = db.execute(f"SELECT {columns} FROM calls".encode()).fetchall()
    return found if len(found) > 1 else found[0]


def armed(db):
    return db.execute("SELECT event_type, subject, due_at - armed_at FROM webhook_expectations").fetchall()


def overdue(db):
    return [event for (event,) in db.execute("SELECT id FROM webhook_events WHERE event_type = 'call.timeout'")]


@pytest.mark.parametrize("status", ["queued", "initiated", "ringing", "in-progress"])
def test_a_call_that_has_not_ended_expects_another_event_within_four_hours(db, status):
    tell(db, status)

    assert armed(db) == [("call.timeout", "call/CA1", FOUR_HOURS)]


@pytest.mark.parametrize("status", ["completed", "busy", "no-answer", "failed", "canceled"])
def test_a_call_that_has_ended_expects_nothing_more(db, status):
    tell(db, "ringing")

    tell(db, status)

    assert armed(db) == []


def test_a_call_whose_end_came_first_expects_nothing_afterwards(db):
    tell(db, "completed")

    tell(db, "ringing")

    assert armed(db) == []


def test_four_silent_hours_end_a_call_as_timed_out_when_they_were_over(db):
    tell(db, "in-progress")

    time_out(db)

    (event,) = overdue(db)
    assert look(db, event, "outcome, occurred_at") == ("handled", state(db, "ended_at"))
    assert state(db) == "timeout"
    log = db.execute("SELECT state, from_state, change FROM call_events ORDER BY id").fetchall()
    assert log[-1] == ("timeout", "answered", "moved")


def test_before_four_hours_are_over_nothing_happens(db):
    tell(db, "in-progress")
    db.execute(MOVE, {"by": timedelta(hours=3)})

    process(db)

    assert (state(db), overdue(db)) == ("answered", [])


def test_each_state_that_moves_a_call_counts_the_hours_anew(db):
    tell(db, "ringing")
    db.execute(MOVE, {"by": timedelta(hours=3)})

    tell(db, "in-progress")

    assert db.execute("SELECT due_at > now() + interval '3 hours' FROM webhook_expectations").fetchall() == [(True,)]


def test_an_end_that_arrives_before_the_timeout_is_raised_beats_it(db):
    tell(db, "in-progress")
    db.execute(MOVE, {"by": FOUR_HOURS + timedelta(seconds=1)})

    tell(db, "completed")
    process(db)

    assert (state(db), overdue(db)) == ("completed", [])


@pytest.mark.parametrize(("status", "ended"), [("completed", "completed"), ("no-answer", "no_answer")])
def test_the_providers_end_still_counts_after_the_timeout(db, status, ended):
    tell(db, "in-progress")
    time_out(db)

    tell(db, status, at="Fri, 20 Nov 2026 10:00:51 +0000")

    assert state(db, "state, ended_at = '2026-11-20 10:00:51 UTC'") == (ended, True)
    assert armed(db) == []


def test_what_is_no_end_changes_nothing_after_the_timeout(db):
    tell(db, "ringing")
    time_out(db)

    tell(db, "in-progress")

    assert state(db) == "timeout"
    assert armed(db) == []


def test_a_replayed_timeout_changes_nothing(db):
    tell(db, "in-progress")
    time_out(db)
    tell(db, "completed")
    before = state(db, "*")

    db.execute("UPDATE webhook_events SET processed_at = NULL WHERE event_type = 'call.timeout'")
    process(db)

    assert state(db, "*") == before


@pytest.mark.parametrize(
    ("provider", "delivery", "query"),
    [
        ("vapi", sample("vapi", "vapi-status-in-progress"), "SELECT status FROM vapi_calls"),
        ("dialpad", sample("dialpad", "dialpad-connected"), "SELECT upper(status) FROM cti_calls"),
    ],
)
def test_the_timeout_of_another_providers_call_is_shown_in_its_systems_words(db, provider, delivery, query):
    arrive(db, provider, delivery)
    process(db)

    time_out(db)

    assert db.execute(query).fetchone() == ({"vapi": "TIMEOUT", "dialpad": "ENDED"}[provider],)


def test_a_campaign_is_completed_by_the_timeout_of_its_last_call(db):
    call = {"id": "1", "campaignId": "camp_1"}
    arrive(db, "vapi", sent({"message": {"type": "status-update", "status": "in-progress", "call": call}}))
    process(db)

    time_out(db)
    process(db)

    assert db.execute("SELECT status, failed FROM campaign_progress").fetchall() == [("COMPLETED", 1)]
