"""Payload to model: every sample of the four providers, each field's unit, the seeds' forms, and what is invalid."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from handlers.models import CALL_STATES, MESSAGE_STATES, Invalid
from handlers.providers import call_event, message_event
from processor.event import read_payload
from tests.arrivals import RECEIVED_AT, events, form, sample, sent
from tests.vector_cases import samples

FILES = {"twilio": "twilio", "vapi": "vapi", "dialpad": "dialpad", "voice-agent": "agent"}
# Each event that the samples hold, and what is expected of it.
SAMPLES = [
    pytest.param(file, one["id"], number, expected, id=f"{one['id']}-{number}")
    for file in FILES
    for one in samples(file)
    if one["id"] != "tw-debugger-event"
    for number, expected in enumerate(one["expect"]["events"])
]
# What we make of a report is in how the call ended, not in its type.
REPORTS = {"vapi-end-of-call-report": "completed", "vapi-end-of-call-report-not-answered": "no_answer"}


def only(provider, delivery):
    (event,) = events(provider, delivery)
    return event


def call_of(provider, delivery):
    return call_event(only(provider, delivery))


def message_of(provider, delivery):
    return message_event(only(provider, delivery))


def told(model, *names):
    return tuple(getattr(model, name) for name in names)


@pytest.mark.parametrize(("file", "name", "number", "expected"), SAMPLES)
def test_a_sample_says_its_type_subject_time_and_state(file, name, number, expected):
    event = events(FILES[file], sample(file, name))[number]
    kind, subject_id = expected["subject"]["kind"], expected["subject"]["id"]
    at = expected["occurred_at"] and datetime.fromisoformat(expected["occurred_at"])
    known = expected["type"], expected["provider_type"], at

    if kind == "message":
        message = message_event(event)
        assert (message.event_type, message.provider_type, message.occurred_at) == known
        assert (message.message_id, message.state) == (subject_id, MESSAGE_STATES.get(expected["type"]))
    else:
        call = call_event(event)
        assert (call.event_type, call.provider_type, call.occurred_at) == known
        assert call.call_id == (event.payload["CallSid"] if kind == "recording" else subject_id)
        assert call.state == (REPORTS.get(name) or CALL_STATES.get(expected["type"]))


def test_an_error_of_our_own_answers_that_twilio_tells_is_about_no_call():
    with pytest.raises(Invalid, match=r"^twilio other: CallSid: field required$"):
        call_of("twilio", sample("twilio", "tw-debugger-event"))


def test_the_samples_are_of_all_four_providers():
    assert {param.values[0] for param in SAMPLES} == set(FILES)
    assert len(SAMPLES) > 80


# Twilio


def test_twilios_duration_is_call_duration_in_seconds_and_not_duration_in_minutes():
    call = call_of("twilio", form({"CallSid": "CA1", "CallStatus": "completed", "CallDuration": "42", "Duration": "1"}))

    assert call.duration_seconds == 42


def test_twilios_minutes_alone_are_no_duration():
    call = call_of("twilio", form({"CallSid": "CA1", "CallStatus": "completed", "Duration": "1"}))

    assert call.duration_seconds is None


def test_a_call_of_twilio_says_how_and_between_whom_it_ended():
    call = call_of("twilio", sample("twilio", "tw-call-completed"))

    names = "direction", "from_number", "to_number", "sip_code", "ended_reason", "ended_at", "ends"
    assert told(call, *names) == ("outbound", "+15555550100", "+15555550142", 200, "completed", None, True)


@pytest.mark.parametrize("sent_with", [{"CallSid": "CA1", "CallStatus": "busy", "From": "+15555550100"}, {}])
def test_a_call_that_event_streams_tell_of_is_that_of_the_callback_in_it(sent_with):
    """As twilio.com/docs/events/event-types/voice/status-callback shows it, its parameters empty."""
    data = {"sid": "CA1", "request": {"method": "POST", "url": "https://example.com/s", "parameters": sent_with}}
    event = {"specversion": "1.0", "type": "com.twilio.voice.status-callback.call.completed", "id": "NO1", "data": data}

    call = call_of("twilio", sent([event]))

    assert told(call, "call_id", "from_number") == ("CA1", sent_with.get("From"))
    assert call.state == ("busy" if sent_with else "completed")


def test_a_child_call_of_twilio_names_its_parent():
    call = call_of("twilio", sample("twilio", "tw-call-child-answered"))

    assert call.parent_call_id is not None
    assert call.parent_call_id.startswith("CA")


def test_the_applications_ids_come_from_the_url_that_twilio_called():
    query = "?call_id=attempt%201&campaign_id=camp_1&contact_id=contact_1"
    call = call_of("twilio", form({"CallSid": "CA1", "CallStatus": "busy"}, f"/webhooks/telephony/events{query}"))

    assert told(call, "attempt_id", "campaign_id", "contact_id") == ("attempt 1", "camp_1", "contact_1")


def test_what_postgresql_cant_hold_in_the_url_is_replaced():
    call = call_of("twilio", form({"CallSid": "CA1", "CallStatus": "busy"}, "/?campaign_id=a%00b"))

    assert call.campaign_id == "a\ufffdb"


def test_machine_detection_of_twilio_says_who_answered():
    assert call_of("twilio", sample("twilio", "tw-amd-fax")).answered_by == "fax"


def test_a_recording_of_twilio_has_seconds_and_no_error():
    call = call_of("twilio", sample("twilio", "tw-recording-completed"))

    assert told(call, "state", "recording_seconds", "error_code") == (None, 41, None)
    assert call.recording_url is not None


def test_a_blank_of_twilio_is_nothing():
    fields = {"CallSid": "CA1", "CallStatus": "completed", "CallDuration": "", "SipResponseCode": "", "From": ""}

    call = call_of("twilio", form(fields))

    assert told(call, "duration_seconds", "sip_code", "from_number") == (None, None, None)


def test_a_message_of_twilio_that_failed_has_its_error_and_no_time():
    message = message_of("twilio", sample("twilio", "tw-sms-failed"))

    names = "direction", "to_numbers", "error_code", "occurred_at", "sent_at"
    assert told(message, *names) == ("outbound", ["+15555550142"], "21610", None, None)


def test_an_inbound_message_of_twilio_has_its_text():
    message = message_of("twilio", sample("twilio", "tw-sms-received"))

    assert message.direction == "inbound"
    assert message.text


def test_a_number_of_whatsapp_keeps_its_prefix():
    message = message_of("twilio", sample("twilio", "tw-whatsapp-received"))

    assert (message.from_number or "").startswith("whatsapp:+")


# Vapi


def test_vapis_duration_is_between_its_iso_times_and_its_cost_in_dollars():
    call = call_of("vapi", sample("vapi", "vapi-end-of-call-report"))

    names = "duration_seconds", "cost_usd", "ended_reason"
    assert told(call, *names) == (Decimal("42.8"), Decimal("0.0473"), "customer-ended-call")
    assert call.ended_at == datetime(2026, 11, 20, 10, 0, 51, tzinfo=UTC)


def test_a_report_of_vapi_has_the_transcript_the_recording_and_whose_call_it_was():
    call = call_of("vapi", sample("vapi", "vapi-end-of-call-report"))

    names = "transcript", "recording_url", "carrier_call_id", "campaign_id", "direction", "to_number"
    assert told(call, *names) == (
        "AI: How can I help?\nUser: Tuesday is fine.\n", "https://storage.vapi.example/rec-mono.wav",
        "CA6654c734ccab8f440ff0825eb443dc7f", "ad82e95a-9c74-82cf-33cf-e59a30ea4060", "outbound", "+15555550142",
    )  # fmt: skip


def test_a_report_of_a_call_that_nobody_answered_cost_nothing_and_took_no_time():
    call = call_of("vapi", sample("vapi", "vapi-end-of-call-report-not-answered"))

    assert told(call, "cost_usd", "duration_seconds", "transcript") == (0, None, None)


def test_who_calls_is_the_customer_of_an_inbound_call_of_vapi():
    call = call_of("vapi", sample("vapi", "vapi-assistant-request"))

    assert told(call, "direction", "from_number", "to_number") == ("inbound", "+15555550142", None)


@pytest.mark.parametrize(
    ("event_type", "state"),
    [
        ("call.started", "queued"),
        ("call.queued", "queued"),
        ("call.ringing", "ringing"),
        ("call.answered", "answered"),
        ("call.failed", "failed"),
    ],
)
def test_the_flat_form_of_vapis_seed_has_its_state(event_type, state):
    call = call_of("vapi", sent({"type": event_type, "call": {"id": "call_1"}}))

    assert told(call, "call_id", "state") == ("call_1", state)


def test_the_flat_end_of_vapis_seed_has_what_the_call_holds():
    times = {"startedAt": "2026-11-20T10:00:00Z", "endedAt": "2026-11-20T10:01:30.5Z"}
    left = {"cost": 0.12, "recordingUrl": "https://r.example/1", "transcript": "Hello"}
    ended = {"id": "call_1", "endedReason": "customer-ended-call", **times, **left}

    call = call_of("vapi", sent({"type": "call.ended", "call": ended}))

    names = "state", "duration_seconds", "cost_usd", "recording_url", "transcript"
    assert told(call, *names) == ("completed", Decimal("90.5"), Decimal("0.12"), "https://r.example/1", "Hello")
    assert call.occurred_at == call.ended_at == datetime(2026, 11, 20, 10, 1, 30, 500000, tzinfo=UTC)


def test_times_of_vapi_without_a_zone_are_utc():
    call = call_of("vapi", vapi_call(call={"id": "1"}, startedAt="2026-11-20T10:00:00", endedAt="2026-11-20T10:01:00Z"))

    assert call.duration_seconds == 60


@pytest.mark.parametrize("never", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", -1])
def test_a_year_that_stands_for_never_is_no_time(never):
    assert call_of("vapi", vapi_call(call={"id": "1"}, endedAt=never)).ended_at is None


def test_a_transcript_in_parts_with_a_number_that_python_cant_read_is_kept_all_the_same():
    event = only("vapi", vapi_call(call={"id": "1"}))
    digits = json.dumps({"message": {"call": {"id": "1"}, "artifact": {"transcript": [7]}}}).replace("7", "7" * 5000)

    assert call_event(replace(event, payload=read_payload(digits))).transcript == f'["{"7" * 5000}"]'


# Dialpad


def test_dialpads_durations_are_milliseconds_and_its_times_milliseconds_since_1970():
    call = call_of("dialpad", sample("dialpad", "dialpad-hangup-answered"))

    names = "duration_seconds", "talk_seconds", "total_seconds"
    assert told(call, *names) == (Decimal("43.00012"), Decimal("43.00012"), Decimal("51.0004"))
    assert call.ended_at == datetime(2026, 11, 20, 10, 0, 51, tzinfo=UTC)
    assert call.occurred_at == datetime(2026, 11, 20, 10, 0, 51, 900000, tzinfo=UTC)


def test_a_recording_of_dialpad_is_in_milliseconds_too():
    details = [{"url": "https://r.example/1", "duration": 41000.5}]

    call = call_of("dialpad", sample("dialpad", "dialpad-hangup-answered", recording_details=details))

    assert told(call, "recording_url", "recording_seconds") == ("https://r.example/1", Decimal("41.0005"))


def test_an_id_of_dialpad_beyond_a_floats_precision_keeps_every_digit():
    call = call_of("dialpad", sample("dialpad", "dialpad-group-leg", call_id=9223372036854775807))

    names = "call_id", "master_call_id", "entry_point_call_id"
    assert told(call, *names) == ("9223372036854775807", "5314479320940544", "5314479320940544")


def test_the_seeds_call_of_dialpad_is_in_seconds_and_iso_times():
    ended = {"id": 7, "from": "+15551234567", "to": "+15559876543", "duration": 300, "ended_at": "2026-11-20T10:05:00Z"}

    call = call_of("dialpad", sent({"event_type": "call.ended", "call": ended}))

    names = "call_id", "state", "duration_seconds", "from_number", "to_number"
    assert told(call, *names) == ("7", "completed", 300, "+15551234567", "+15559876543")
    assert call.ended_at == call.occurred_at == datetime(2026, 11, 20, 10, 5, tzinfo=UTC)


def test_a_message_of_dialpad_was_sent_when_it_was_created():
    message = message_of("dialpad", sample("dialpad", "dialpad-sms-outbound-failed"))

    names = "state", "delivery_result", "to_numbers", "direction"
    assert told(message, *names) == ("failed", "rejected_spam", ["+15555550100"], "outbound")
    assert message.sent_at == datetime(2026, 11, 20, 10, 0, tzinfo=UTC)


# The voice agent


def test_the_agents_outcome_is_in_seconds_and_its_words():
    outcome = {"connected": True, "duration": 45.5, "customer_response": "will_pay_today", "notes": "Confirmed"}
    call = call_of("agent", sent({"reminder_id": "rem_1", "event_type": "call_completed", "outcome": outcome}))

    names = "call_id", "state", "connected", "duration_seconds", "customer_response", "notes"
    assert told(call, *names) == ("rem_1", "completed", True, Decimal("45.5"), "will_pay_today", "Confirmed")


def test_the_agents_time_is_when_it_happened():
    body = {"reminder_id": "rem_1", "event_type": "call_answered", "occurred_at": "2026-11-20T12:00:00+02:00"}

    assert call_of("agent", sent(body)).occurred_at == RECEIVED_AT - timedelta(hours=2)


def test_an_older_agents_reason_is_its_response():
    body = {"reminder_id": "rem_1", "event_type": "call_failed", "outcome": {"reason": "no_answer"}}

    assert told(call_of("agent", sent(body)), "customer_response", "connected") == ("no_answer", None)


# What is invalid

NOT_TO_BE_SEEN = "s3cr3t-value"


def vapi_call(**fields):
    return sent({"message": {"type": "status-update", "status": "ringing", **fields}})


def twilio_call(**fields):
    return form({"CallSid": "CA1", "CallStatus": "completed", **fields})


@pytest.mark.parametrize(
    ("provider", "delivery", "field"),
    [
        ("twilio", twilio_call(CallDuration=NOT_TO_BE_SEEN), "CallDuration"),
        ("twilio", twilio_call(SipResponseCode=NOT_TO_BE_SEEN), "SipResponseCode"),
        ("twilio", twilio_call(CallDuration="-1"), "duration_seconds"),
        ("twilio", twilio_call(CallDuration="1e200000"), "duration_seconds"),
        ("twilio", twilio_call(CallDuration="1e-200000"), "duration_seconds"),
        ("twilio", twilio_call(SipResponseCode="15551234567"), "sip_code"),
        ("twilio", form({"CallSid": "CA1", "CallStatus": "busy"}, f"/?campaign_id={'c' * 256}"), "campaign_id"),
        ("twilio", form({"CallSid": "CA1", "CallStatus": "busy"}, f"/?contact_id={'c' * 256}"), "contact_id"),
        ("twilio", form({"CallSid": "CA1", "CallStatus": "busy"}, f"/?call_id={'c' * 256}"), "attempt_id"),
        ("twilio", form({"CallStatus": "completed", "From": NOT_TO_BE_SEEN}), "CallSid"),
        ("vapi", vapi_call(call={"number": NOT_TO_BE_SEEN}), "call.id"),
        ("vapi", vapi_call(call={"id": "1"}, endedAt=NOT_TO_BE_SEEN), "endedAt"),
        ("vapi", vapi_call(call={"id": "1"}, cost=NOT_TO_BE_SEEN), "cost"),
        ("vapi", vapi_call(call={"id": "1"}, cost="1e200000"), "cost_usd"),
        ("vapi", vapi_call(call={"id": "1", "campaignId": "c" * 256}), "campaign_id"),
        ("vapi", vapi_call(call=NOT_TO_BE_SEEN), "call"),
        ("vapi", sent({"type": "call.answered"}), "call"),
        ("dialpad", sent({"state": "ringing", "external_number": NOT_TO_BE_SEEN}), "call_id"),
        ("dialpad", sent({"state": "hangup", "call_id": 1, "duration": NOT_TO_BE_SEEN}), "duration"),
        ("dialpad", sent({"state": "hangup", "call_id": 1, "talk_time": -1}), "talk_seconds"),
        ("dialpad", sent({"state": "hangup", "call_id": 1, "date_ended": NOT_TO_BE_SEEN}), "date_ended"),
        ("dialpad", sent({"event_type": "call.ended", "call": {"ended_at": NOT_TO_BE_SEEN}}), "id"),
        ("dialpad", sent({"event_type": "call.ended", "call": {"id": 1, "ended_at": NOT_TO_BE_SEEN}}), "ended_at"),
        ("agent", sent({"event_type": "call_answered", "notes": NOT_TO_BE_SEEN}), "reminder_id"),
        ("agent", sent({"event_type": "call_completed", "reminder_id": "1", "outcome": NOT_TO_BE_SEEN}), "outcome"),
        ("agent", sent({"event_type": "call_completed", "reminder_id": "1", "outcome": {"connected": NOT_TO_BE_SEEN}}),
         "outcome.connected"),
        ("agent", sent({"event_type": "call_completed", "reminder_id": "1", "outcome": {"duration": NOT_TO_BE_SEEN}}),
         "outcome.duration"),
    ],
)  # fmt: skip
def test_what_is_not_as_documented_is_a_value_error_that_names_the_field_and_not_its_value(provider, delivery, field):
    with pytest.raises(Invalid, match=f"^{provider} .*: {field}: ") as refusal:
        call_of(provider, delivery)

    assert isinstance(refusal.value, ValueError)
    assert NOT_TO_BE_SEEN not in str(refusal.value)
    assert refusal.value.__cause__ is None


@pytest.mark.parametrize(
    ("provider", "delivery", "field"),
    [
        ("twilio", form({"SmsStatus": "sent", "Body": NOT_TO_BE_SEEN}), "MessageSid"),
        ("dialpad", sent({"from_number": "1", "to_number": NOT_TO_BE_SEEN}), "id"),
        ("dialpad", sent({"message_status": "failed", "id": 1, "created_date": NOT_TO_BE_SEEN}), "created_date"),
    ],
)
def test_an_invalid_message_is_told_likewise(provider, delivery, field):
    with pytest.raises(Invalid, match=f"^{provider} .*: {field}: ") as refusal:
        message_of(provider, delivery)

    assert NOT_TO_BE_SEEN not in str(refusal.value)


@pytest.mark.parametrize("provider", ["twilio", "vapi", "dialpad", "agent"])
@pytest.mark.parametrize("payload", [None, [], "text", 7])
def test_what_is_no_object_is_invalid(provider, payload):
    event = only("agent", sent({}))

    with pytest.raises(Invalid, match="expected an object"):
        call_event(replace(event, provider=provider, payload=payload))


def test_a_provider_without_calls_or_messages_is_told():
    event = only("agent", sent({}))

    with pytest.raises(Invalid, match="expected a provider of messages, one of dialpad, twilio; got 'agent'"):
        message_event(event)
