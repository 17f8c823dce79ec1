"""Payment reminders: what the voice agent's calls make of the rows."""

from datetime import timedelta

import pytest
from psycopg import errors

from handlers import reminders
from handlers.agent_client import AgentClient
from tests.arrivals import connection, db, shipped
from tests.inbox import look, process
from tests.receiver_fixtures import AGENT_SECRET, SECRETS, SOURCES, start
from tests.reminders import (
    ANSWERED,
    AT,
    COMPLETED,
    FAILED,
    NOT_CONNECTED,
    REACHED,
    UNREACHED,
    armed,
    dispatch,
    make,
    replay,
    row,
    tell,
)

__all__ = ["connection", "db", "shipped", "start"]

pytestmark = pytest.mark.usefixtures("shipped")


def test_an_answered_call_is_processing(db):
    make(db)

    tell(db, ANSWERED, 1)
    process(db)

    assert row(db) == ("processing", None, None, None, 0, None)


def test_a_reminder_that_the_backend_has_not_yet_called_in_progress_is_processing_too(db):
    make(db, status="pending")

    tell(db, ANSWERED, 1)
    process(db)

    assert row(db, "status") == "processing"


def test_a_completed_call_completes_the_reminder_with_its_outcome(db):
    make(db)

    tell(db, ANSWERED, 1)
    tell(db, COMPLETED, 2)
    process(db)

    assert row(db) == ("completed", REACHED, None, None, 0, None)
    assert armed(db) == []


@pytest.mark.parametrize(
    "outcome",
    [
        {"connected": False, "duration": 0, "customer_response": "hung_up"},
        {"connected": True, "duration": 20, "customer_response": "no_answer"},
        {"connected": True, "duration": 20, "customer_response": "voicemail"},
        {"reason": "busy"},
    ],
    ids=["not connected", "not answered", "voicemail", "an older agent's word"],
)
def test_a_call_that_reached_nobody_leaves_the_reminder_pending_for_a_retry_an_hour_later(db, outcome):
    make(db)

    tell(db, ("call_completed", outcome), 2)
    process(db)

    assert row(db) == ("pending", outcome, None, None, 1, AT + timedelta(minutes=62))
    assert armed(db) == []


@pytest.mark.parametrize("outcome", [None, {}, {"promised_to_pay": True, "date": "2026-11-25"}])
def test_a_call_that_says_nothing_of_being_missed_was_answered(db, outcome):
    make(db)

    tell(db, ("call_completed", outcome))
    process(db)

    assert row(db, "status, outcome") == ("completed", outcome or {})


def test_an_end_without_a_time_is_tried_again_an_hour_after_it_was_received(db):
    make(db)

    event = tell(db, UNREACHED)
    process(db)

    assert look(db, event, "received_at + interval '1 hour'") == (row(db, "next_retry_at"),)


def test_a_failed_call_fails_the_reminder_with_its_reason(db):
    make(db)

    tell(db, FAILED, 1)
    process(db)

    assert row(db) == ("failed", NOT_CONNECTED, "no_answer", None, 0, None)
    assert armed(db) == []


def test_after_as_many_retries_as_there_are_it_is_failed(db):
    make(db)
    for call in range(reminders.RETRIES_MAX):
        tell(db, UNREACHED, call * 60)
        process(db)
        assert row(db, "status, retry_count") == ("pending", call + 1)
        dispatch(db)

    last = tell(db, UNREACHED, 200)
    process(db)
    assert row(db, "status, next_retry_at") == ("failed", None)

    replay(db, last)
    assert row(db, "status, next_retry_at") == ("failed", None)


def test_a_retry_at_no_time_is_refused_where_it_is_written(db):
    with pytest.raises(errors.CheckViolation, match="next_retry_at"):
        make(db, next_retry_at="infinity")


def test_a_second_call_begins_without_the_first_ones_outcome_and_completes(db):
    make(db)
    tell(db, UNREACHED, 2)
    process(db)
    dispatch(db)

    tell(db, ANSWERED, 62)
    process(db)
    assert row(db) == ("processing", None, None, None, 1, None)

    tell(db, COMPLETED, 63)
    process(db)
    assert row(db) == ("completed", REACHED, None, None, 1, None)


def test_tenants_have_reminders_of_their_own(db):
    make(db, app_id="acme")
    make(db, app_id="other")

    tell(db, COMPLETED, app_id="acme")
    process(db)

    assert dict(db.execute("SELECT app_id, status FROM reminders").fetchall()) == {
        "acme": "completed",
        "other": "in_progress",
    }


def test_a_duration_below_zero_is_a_dead_letter_and_changes_nothing(db):
    make(db)

    event = tell(db, ("call_completed", {"connected": True, "duration": -1}))
    process(db)

    dead, error = look(db, event, "dead_at IS NOT NULL, last_error")
    assert dead
    assert "duration_seconds: input should be greater than or equal to 0" in error
    assert row(db, "status") == "in_progress"


@pytest.mark.parametrize("what", [ANSWERED, COMPLETED, FAILED], ids=lambda what: what[0])
def test_an_event_of_an_unknown_reminder_is_a_dead_letter_that_a_replay_revives(db, what):
    event = tell(db, what)
    process(db)
    dead, error = look(db, event, "dead_at IS NOT NULL, last_error")
    assert dead
    assert "no reminder 'rem_1' of app 'default'; insert it before its call, and replay" in error

    make(db)
    replay(db, event)

    assert look(db, event, "outcome") == ("handled",)
    assert row(db, "status <> 'in_progress'") is True


def test_an_event_of_a_type_that_the_agent_made_up_is_processed_and_changes_nothing(db):
    make(db)

    event = tell(db, ("call_transferred", None))
    process(db)

    assert look(db, event, "outcome") == ("no_handler",)
    assert row(db, "status") == "in_progress"


@pytest.fixture
def client(start, db):
    receiver = start(SOURCES, SECRETS | {"BASE_URL": "https://hooks.example.com"})
    return AgentClient("http://{}:{}/webhooks/agent".format(*receiver.address), AGENT_SECRET)


def test_what_the_agents_client_tells_moves_the_reminder_to_its_end(client, db):
    make(db)

    client.call_answered("rem_1")
    process(db)
    assert row(db, "status") == "processing"

    client.call_completed("rem_1", connected=True, duration=45, customer_response="will_pay_today", notes="Confirmed")
    process(db)
    assert row(db, "status, outcome") == ("completed", REACHED)


def test_a_second_call_that_ends_as_the_first_counts_as_another(client, db):
    make(db)
    for call in (1, 2):
        dispatch(db)
        client.call_completed("rem_1", connected=False, duration=0, customer_response="no_answer")
        process(db)
        assert row(db, "status, outcome, retry_count") == ("pending", NOT_CONNECTED, call)

    dispatch(db)
    client.call_failed("rem_1", customer_response="invalid_number")
    process(db)
    assert row(db, "status, skip_reason, retry_count") == ("failed", "invalid_number", 2)


def test_what_the_client_sends_twice_counts_once(client, db):
    make(db)
    for _ in range(2):
        client.call_completed("rem_1", connected=False, duration=0, event_id="call-7", occurred_at=AT)
    process(db)

    assert row(db, "status, retry_count") == ("pending", 1)
    assert db.execute("SELECT count(*) FROM webhook_duplicates").fetchone() == (1,)
