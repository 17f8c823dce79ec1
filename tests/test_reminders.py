"""Payment reminders: what the voice agent, Twilio's callbacks and their silence make of the rows."""

from datetime import UTC, datetime, timedelta
from itertools import count, permutations
from typing import Any

import pytest
from psycopg import errors

from handlers import reminders
from handlers.agent_client import AgentClient
from processor.expect import raise_overdue
from tests.arrivals import arrive, connection, db, form, sent, shipped
from tests.inbox import look, process
from tests.receiver_fixtures import AGENT_SECRET, SECRETS, SOURCES, start

__all__ = ["connection", "db", "shipped", "start"]

pytestmark = pytest.mark.usefixtures("shipped")

# What the agent says, and its outcome.
REACHED = {"connected": True, "duration": 45, "customer_response": "will_pay_today", "notes": "Confirmed"}
NOT_CONNECTED = {"connected": False, "duration": 0, "customer_response": "no_answer"}
CALL_ENDS = ["answered", "completed", "unreached", "failed"]
Told = tuple[str, dict[str, Any] | None]
ANSWERED: Told = ("call_answered", None)
COMPLETED: Told = ("call_completed", REACHED)
UNREACHED: Told = ("call_completed", NOT_CONNECTED)
FAILED: Told = ("call_failed", NOT_CONNECTED)

NUMBERS = count(1)
AT = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
TEN_MINUTES = timedelta(minutes=10)
TIMED_OUT = "Call timeout - no agent response"
ROW = "status, outcome, skip_reason, error_code, retry_count, next_retry_at"


def make(db, reminder="rem_1", **columns):
    """Insert a reminder whose call is dispatched."""
    values = {"reminder_id": reminder, "status": "in_progress", **columns}
    statement = f"INSERT INTO reminders ({', '.join(values)}) VALUES ({', '.join(['%s'] * len(values))})"
    db.execute(statement.encode(), list(values.values()))


def dispatch(db, reminder="rem_1"):
    db.execute("UPDATE reminders SET status = 'in_progress' WHERE reminder_id = %s", [reminder])


def tell(db, what, minute=None, reminder="rem_1", **columns):
    """Store an event of the agent, which happened so many minutes after AT; None: it tells no time. Return its id."""
    event_type, outcome = what
    body = {"reminder_id": reminder, "event_type": event_type, "event_id": f"told-{next(NUMBERS)}"}
    body |= {} if outcome is None else {"outcome": outcome}
    body |= {} if minute is None else {"occurred_at": (AT + timedelta(minutes=minute)).isoformat()}
    (event,) = arrive(db, "agent", sent(body), **columns)
    return event


def call_back(db, status, error=None, message="SM1"):
    """Store a status callback of Twilio."""
    fields = {"MessageSid": message, "MessageStatus": status, "To": "+15555550142", "From": "+15555550100"}
    (event,) = arrive(db, "twilio", form(fields | ({"ErrorCode": error} if error else {})))
    return event


def row(db, columns=ROW, reminder="rem_1"):
    (found,) = db.execute(f"SELECT {columns} FROM reminders WHERE reminder_id = %s".encode(), [reminder])
    return found if len(found) > 1 else found[0]


def silence(db):
    """Let what is expected be overdue: it was expected 10 minutes earlier."""
    moved = "UPDATE webhook_expectations SET armed_at = armed_at - %(by)s, due_at = due_at - %(by)s"
    db.execute(moved, {"by": TEN_MINUTES + timedelta(seconds=1)})


def time_out(db):
    silence(db)
    process(db)


def armed(db):
    """Return what is expected of which subject, and within which time."""
    return db.execute("SELECT event_type, subject, due_at - armed_at FROM webhook_expectations").fetchall()


def replay(db, event):
    db.execute("UPDATE webhook_events SET processed_at = NULL WHERE id = %s", [event])
    process(db)


EXPECTED = [("reminder.timeout", "reminder/rem_1", TEN_MINUTES)]


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


# SMS


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


# Timeouts


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


# Order, repetition, replay

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


# From the agent to the row


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
