"""Survey campaigns: Twilio's callbacks for a call that the application placed, its attempt, contact and dialogue."""

import json
import time
from decimal import Decimal
from itertools import permutations
from typing import Any

import psycopg
import pytest

from handlers import surveys
from handlers.models import CALL_STATES, CallEvent
from handlers.providers import call_event
from processor import on, operations
from receiver.delivery import BadSignature, Delivery
from receiver.providers import standard_webhooks
from receiver.settings import from_environ
from tests.commands import runner
from tests.far_side import far_side
from tests.http_receiver import Receiver
from tests.inbox import look, make_due, process
from tests.receiver_fixtures import BASE_URL, STANDARD_SECRET, TOKEN
from tests.signing import twilio as signed
from tests.told import SURVEY, at, event, row, rows, systems, tell_twilio, twilio_form

__all__ = ["systems"]

pytestmark = pytest.mark.usefixtures("systems")

PATH = f"/webhooks/telephony/events?{SURVEY}"
ATTEMPT = "SELECT * FROM call_attempts"
CONTACT = "SELECT * FROM contacts"
DIALOGUES = "SELECT * FROM dialogues"
STARTS = "SELECT * FROM webhook_events WHERE event_type = 'dialogue.start'"


def tell(conn, status, seconds=0, *, query=SURVEY, **fields):
    return tell_twilio(conn, status, seconds, query=query, **fields)


def told(conn, status, seconds=0, **fields):
    """Store a callback of the survey's call, and process it."""
    identifier = tell(conn, status, seconds, **fields)
    process(conn)
    return identifier


def result(conn):
    """Return the attempt's outcome and the contact's state."""
    return row(conn, ATTEMPT)["outcome"], row(conn, CONTACT)["state"]


@pytest.fixture
def door(dsn):
    """The receiver as it is without a sources file, with Twilio's token alone."""
    receiver = Receiver(from_environ({"DATABASE_URL": dsn, "TWILIO_AUTH_TOKEN": TOKEN, "BASE_URL": BASE_URL}))
    yield receiver
    receiver.stop()


def test_a_callback_to_webhooks_telephony_events_is_received_and_processed(db, door):
    answered = signed(twilio_form("no-answer", 30).items(), PATH)

    assert answered.to(door).status == 200
    assert answered.to(door, x_twilio_signature="forged").status == 401
    process(db)

    assert result(db) == ("NO_ANSWER", "NOT_REACHED")
    assert row(db, "SELECT event_type, outcome FROM webhook_events WHERE source = 'twilio'") == {
        "event_type": "call.no_answer", "outcome": "handled",
    }  # fmt: skip


def test_the_same_callback_delivered_twice_is_one_event(db, door):
    answered = signed(twilio_form("in-progress", 9).items(), PATH)

    assert [answered.to(door).status for _ in range(2)] == [200, 200]
    process(db)

    assert len(rows(db, "SELECT * FROM webhook_events")) == len(rows(db, DIALOGUES)) == 1


def test_a_callback_is_parsed_into_a_call_event_with_the_ids_of_its_url(db):
    ended = event(db, tell(db, "failed", 30, CallDuration=0, SipResponseCode=404, ErrorCode=32009))

    assert call_event(ended) == CallEvent(
        app_id="default", provider="twilio", call_id="CA1", event_type="call.failed", provider_type="failed",
        state="failed", occurred_at=at(30), direction="outbound", from_number="+15555550100",
        to_number="+15555550142", ended_reason="failed", duration_seconds=Decimal(0), sip_code=404, error_code="32009",
        campaign_id="camp-1", contact_id="cont-1", attempt_id="att-1",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("status", "event_type"),
    [
        ("queued", "call.queued"), ("initiated", "call.initiated"), ("ringing", "call.ringing"),
        ("in-progress", "call.answered"), ("completed", "call.completed"), ("busy", "call.busy"),
        ("no-answer", "call.no_answer"), ("failed", "call.failed"), ("canceled", "call.canceled"),
    ],
)  # fmt: skip
def test_a_status_of_twilio_is_an_event_type_and_a_state(db, status, event_type):
    found = call_event(event(db, tell(db, status)))

    assert (found.event_type, found.state) == (event_type, CALL_STATES[event_type])


def test_an_invalid_callback_raises_value_error_and_is_a_dead_letter(db):
    invalid = told(db, "completed", CallDuration="soon")

    with pytest.raises(ValueError, match="CallDuration"):
        call_event(event(db, invalid))
    (error,) = look(db, invalid, "last_error")
    assert error.startswith("Invalid: twilio call.completed: CallDuration: ")
    assert rows(db, ATTEMPT) == []


@pytest.mark.parametrize(
    ("status", "outcome", "contact"),
    [
        ("initiated", None, "PENDING"),
        ("ringing", None, "PENDING"),
        ("in-progress", None, "PENDING"),
        ("no-answer", "NO_ANSWER", "NOT_REACHED"),
        ("busy", "BUSY", "NOT_REACHED"),
        ("failed", "FAILED", "NOT_REACHED"),
        ("canceled", "FAILED", "NOT_REACHED"),
        ("completed", None, "PENDING"),
    ],
)
def test_a_status_moves_attempt_and_contact_as_the_table_of_transitions_says(db, status, outcome, contact):
    told(db, status)

    assert result(db) == (outcome, contact)


@pytest.mark.parametrize("kept", ["COMPLETED", "REFUSED"])
@pytest.mark.parametrize("end", ["completed", "no-answer", "failed"])
def test_what_the_dialogue_orchestrator_wrote_is_kept_however_the_call_ends(db, kept, end):
    told(db, "in-progress", 9)
    db.execute("UPDATE call_attempts SET outcome = %s", [kept])
    db.execute("UPDATE contacts SET state = %s", [kept])

    told(db, end, 51)

    assert result(db) == (kept, kept)


def test_a_survey_that_was_completed_stays_so_when_its_calls_end_is_never_told(db):
    told(db, "in-progress", 9)
    db.execute("UPDATE call_attempts SET outcome = 'COMPLETED'")
    db.execute("UPDATE webhook_expectations SET armed_at = now() - interval '5 h', due_at = now() - interval '1 h'")

    process(db)

    assert row(db, "SELECT state FROM calls") == {"state": "timeout"}
    assert row(db, ATTEMPT)["outcome"] == "COMPLETED"


def test_a_call_that_was_answered_after_all_is_not_one_that_was_not(db):
    told(db, "no-answer", 30)
    told(db, "completed", 51, SequenceNumber=4)

    assert result(db) == (None, "PENDING")


def test_a_contact_is_not_reached_as_long_as_one_attempt_was_not(db):
    told(db, "no-answer", 30)
    told(db, "completed", 51, call="CA2", query=SURVEY.replace("att-1", "att-2"))

    assert rows(db, "SELECT outcome FROM call_attempts ORDER BY call_id") == [
        {"outcome": "NO_ANSWER"},
        {"outcome": None},
    ]
    assert row(db, CONTACT)["state"] == "NOT_REACHED"


def test_two_workers_with_calls_of_the_same_contacts_do_not_wait_for_each_other(db, dsn):
    for contact in range(2):
        told(db, "initiated", call=f"CA{contact}", query=f"call_id=made-{contact}&campaign_id=c&contact_id={contact}")
    ends = [
        tell(db, "busy", 30, call=f"CB{number}", query=f"call_id=att-{number}&campaign_id=c&contact_id={contact}")
        for number, contact in enumerate((0, 1, 1, 0))
    ]
    impatient = f"{dsn} options='-c lock_timeout=5s'"
    with psycopg.connect(impatient) as one, psycopg.connect(impatient) as other:
        for number, conn in zip(ends, (one, other, one, other), strict=True):
            surveys.follow_call(event(conn, number), conn)
    process(db)

    assert row(db, "SELECT state, count(*) FROM contacts GROUP BY 1") == {"state": "NOT_REACHED", "count": 2}


def test_a_contact_whose_two_attempts_change_at_once_has_the_state_of_both(db, dsn):
    told(db, "no-answer", 30)
    late = tell(db, "completed", 51, SequenceNumber=4)
    failed = tell(db, "busy", 60, call="CA2", query=SURVEY.replace("att-1", "att-2"))
    impatient = f"{dsn} options='-c lock_timeout=5s'"
    with psycopg.connect(impatient) as one, psycopg.connect(impatient) as other:  # neither sees what the other does
        surveys.follow_call(event(one, late), one)
        surveys.follow_call(event(other, failed), other)
        other.commit()
        one.commit()
    process(db)

    assert [one["outcome"] for one in rows(db, f"{ATTEMPT} ORDER BY call_id")] == [None, "BUSY"]
    assert row(db, CONTACT)["state"] == "NOT_REACHED"


def test_answering_machine_recording_and_duration_land_on_the_attempt(db):
    told(db, "in-progress", 9)
    told(db, None, AnsweredBy="machine_end_beep", MachineDetectionDuration=3472)
    told(db, "completed", 51, CallDuration=42)
    told(db, None, RecordingSid="RE1", RecordingStatus="completed", RecordingUrl="https://api/RE1",
         RecordingDuration=41)  # fmt: skip

    found = row(db, ATTEMPT)
    assert [found[name] for name in ("answered_by", "duration_seconds", "recording_url")] == [
        "machine_end_beep", 42, "https://api/RE1",
    ]  # fmt: skip


def test_an_error_code_lands_on_the_attempt(db):
    told(db, "failed", ErrorCode=32009)

    assert row(db, ATTEMPT)["error_code"] == "32009"


def test_an_attempt_names_its_call_campaign_and_contact_as_the_application_does(db):
    told(db, "initiated")

    found = row(db, ATTEMPT)
    assert [found[name] for name in ("call_id", "provider_call_id", "campaign_id", "contact_id")] == [
        "att-1", "CA1", "camp-1", "cont-1",
    ]  # fmt: skip
    assert row(db, "SELECT campaign_id FROM calls") == {"campaign_id": "camp-1"}


def test_an_attempt_that_the_application_made_is_the_one_that_is_followed(db):
    db.execute("INSERT INTO campaigns (campaign_id) VALUES ('camp-1')")
    db.execute("INSERT INTO contacts (contact_id, campaign_id, phone_number) VALUES ('cont-1', 'camp-1', '+1555')")
    db.execute("INSERT INTO calls (provider, call_id, campaign_id) VALUES ('twilio', 'CA1', 'camp-1')")
    db.execute(
        "INSERT INTO call_attempts (call_id, provider_call_id, campaign_id, contact_id)"
        " VALUES ('mine', 'CA1', 'camp-1', 'cont-1')"
    )

    told(db, "busy", query="")

    assert (row(db, ATTEMPT)["call_id"], *result(db)) == ("mine", "BUSY", "NOT_REACHED")
    assert row(db, CONTACT)["phone_number"] == "+1555"


def test_a_call_of_no_campaign_makes_no_attempt(db):
    told(db, "no-answer", query="")

    assert rows(db, ATTEMPT) == rows(db, CONTACT) == []


def test_tenants_do_not_share_attempts_contacts_or_dialogues(db):
    tell(db, "in-progress", 9)
    tell(db, "no-answer", 30, app_id="acme", SequenceNumber=5)
    process(db)

    assert rows(db, "SELECT app_id, outcome FROM call_attempts ORDER BY app_id") == [
        {"app_id": "acme", "outcome": "NO_ANSWER"}, {"app_id": "default", "outcome": None},
    ]  # fmt: skip
    assert rows(db, "SELECT app_id, state FROM contacts ORDER BY app_id") == [
        {"app_id": "acme", "state": "NOT_REACHED"}, {"app_id": "default", "state": "PENDING"},
    ]  # fmt: skip
    assert row(db, DIALOGUES)["app_id"] == "default"


def test_the_types_that_were_processed_are_kept_on_the_attempt_each_once(db):
    for sequence in range(2):
        told(db, "in-progress", 9, SequenceNumber=sequence)
    told(db, "completed", 51)

    assert row(db, ATTEMPT)["processed_types"] == ["call.answered", "call.completed"]


def test_an_event_type_of_a_call_that_was_processed_changes_nothing_when_it_is_told_again(db):
    told(db, "in-progress", 9)
    told(db, "no-answer", 30)
    before = [rows(db, query) for query in (ATTEMPT, CONTACT, DIALOGUES, "SELECT * FROM calls")]

    told(db, "in-progress", 9, SequenceNumber=7)
    told(db, "no-answer", 30, SequenceNumber=8)

    assert [rows(db, query) for query in (ATTEMPT, CONTACT, DIALOGUES, "SELECT * FROM calls")] == before


def test_a_replay_of_all_events_changes_nothing(db):
    for status, seconds in (("initiated", 0), ("in-progress", 9), ("no-answer", 30)):
        told(db, status, seconds)
    before = [rows(db, query) for query in (ATTEMPT, CONTACT, DIALOGUES, "SELECT * FROM calls")]

    operations.replay(db, [1, 2, 3])
    process(db)

    assert [rows(db, query) for query in (ATTEMPT, CONTACT, DIALOGUES, "SELECT * FROM calls")] == before


def test_attempt_contact_and_dialogue_are_the_same_whatever_the_order(db):
    story: list[tuple[Any, ...]] = [
        ("initiated", 0, {}),
        ("in-progress", 9, {}),
        ("failed", 51, {"CallDuration": 42}),
        (None, 0, {"RecordingStatus": "completed", "RecordingUrl": "https://api/RE"}),
    ]
    orders = list(permutations(story))
    for place in range(len(story)):  # each is processed before the next comes
        for number, order in enumerate(orders):
            status, seconds, fields = order[place]
            recording = {"RecordingSid": f"RE{number}"} if status is None else {}
            query = f"call_id=att-{number}&campaign_id=camp-1&contact_id=cont-{number}"
            tell(db, status, seconds, call=f"CA{number}", query=query, **fields, **recording)
        process(db)

    assert row(db, "SELECT DISTINCT outcome, duration_seconds, recording_url, processed_types FROM call_attempts") == {
        "outcome": "FAILED", "duration_seconds": 42, "recording_url": "https://api/RE",
        "processed_types": ["call.answered", "call.failed", "call.initiated", "call.recording"],
    }  # fmt: skip
    assert row(db, "SELECT DISTINCT state FROM contacts") == {"state": "NOT_REACHED"}
    assert row(db, "SELECT started_at, count(*) FROM dialogues GROUP BY 1") == {
        "started_at": at(9), "count": len(orders),
    }  # fmt: skip


def test_a_call_that_is_answered_starts_exactly_one_dialogue(db):
    answered = told(db, "in-progress", 9)
    told(db, "in-progress", 10, SequenceNumber=7)
    told(db, "completed", 51)

    found = row(db, DIALOGUES)
    assert [found[name] for name in ("call_id", "campaign_id", "contact_id", "started_at", "webhook_event_id")] == [
        "CA1", "camp-1", "cont-1", at(9), answered,
    ]  # fmt: skip


@pytest.mark.parametrize("end", ["no-answer", "busy", "failed", "canceled", "completed"])
def test_a_call_that_is_not_told_to_be_answered_starts_no_dialogue(db, end):
    told(db, "ringing", 2)
    told(db, end, 30)

    assert rows(db, DIALOGUES) == []


def test_a_dialogue_is_rolled_back_with_a_later_handler_that_fails(db):
    failures = [ConnectionError("the crm is down")]

    @on("call.answered")
    def push(event, conn):
        assert len(rows(conn, DIALOGUES)) == 1
        if failures:
            raise failures.pop()

    answered = told(db, "in-progress", 9)
    assert look(db, answered, "last_error") == ("ConnectionError: the crm is down",)
    assert rows(db, DIALOGUES) == rows(db, ATTEMPT) == rows(db, "SELECT * FROM calls") == []

    make_due(db)
    process(db)
    assert len(rows(db, DIALOGUES)) == 1


def test_without_a_url_of_the_orchestrator_it_is_told_nothing(db):
    told(db, "in-progress", 9)

    assert rows(db, STARTS) == []
    assert row(db, DIALOGUES)["announced_at"] is None


def test_the_orchestrator_is_told_of_a_dialogue_by_exactly_one_signed_post_and_again_after_a_500(db, dsn):
    tell(db, "in-progress", 9)
    tell(db, "completed", 51)
    with far_side() as orchestrator:
        orchestrator.answer(500)

        def work():
            done = runner(dsn)("run", "--once", DIALOGUE_URL=orchestrator.url, DIALOGUE_SECRET=STANDARD_SECRET)
            assert done.returncode == 0, done.stderr

        work()
        assert row(db, STARTS)["last_error"] == "ConnectionError: the dialogue orchestrator answered 500; expected 2xx"
        assert (len(orchestrator.got), row(db, DIALOGUES)["announced_at"]) == (1, None)

        make_due(db)
        tell(db, "in-progress", 9, SequenceNumber=7)
        work()
        operations.replay(db, [1])
        work()

    first, second = orchestrator.got  # and no third
    assert (first.body, first.headers["webhook-id"]) == (second.body, second.headers["webhook-id"])
    assert json.loads(second.body) == {
        "call_id": "att-1", "provider": "twilio", "provider_call_id": "CA1", "campaign_id": "camp-1",
        "contact_id": "cont-1", "started_at": "2026-11-20T10:00:09+00:00",
    }  # fmt: skip
    assert row(db, DIALOGUES)["announced_at"] is not None
    for got in (first, second):
        as_sent = Delivery("POST", "", got.target, got.headers, got.body)
        standard_webhooks.verify(as_sent, STANDARD_SECRET.encode(), time.time())
        changed = Delivery("POST", "", got.target, got.headers, got.body + b" ")
        with pytest.raises(BadSignature):
            standard_webhooks.verify(changed, STANDARD_SECRET.encode(), time.time())


def test_a_url_of_the_orchestrator_without_its_secret_stops_the_start(dsn):
    done = runner(dsn)("run", "--once", DIALOGUE_URL="https://orchestrator.example.com/start")

    assert done.returncode == 78
    assert (
        "DIALOGUE_URL is set and DIALOGUE_SECRET is not; set it to what the orchestrator verifies with" in done.stderr
    )
