"""Twilio's kinds of request that carry the same CallSid: each distinct one is an event of its own."""

import json
from datetime import UTC, datetime

import pytest

from tests.http_receiver import duplicates, rows
from tests.receiver_fixtures import connection, db, receiver, start
from tests.signing import twilio, twilio_json

__all__ = ["connection", "db", "receiver", "start"]

CALL = ("CallSid", "CA1")
ASKED = [CALL, ("From", "+15555550100"), ("To", "+15555550142")]
ANSWERED = [*ASKED, ("CallStatus", "in-progress"), ("Direction", "inbound")]
RECORDED = [("RecordingSid", "RE1"), ("RecordingUrl", "https://api.twilio.com/RE1")]
# With the fields that Twilio sends to the transcribeCallback of <Record> and the partialResultCallback of <Gather>
# (twilio.com/docs/voice/twiml/record and .../gather): CallStatus among both, SequenceNumber in the latter.
TRANSCRIBED = [*ANSWERED[:-2], ("CallStatus", "completed"), ("Direction", "inbound"), *RECORDED]
HEARD = [*ANSWERED, ("Stability", "0.9"), ("StableSpeechResult", ""), ("Language", "en-US")]


@pytest.mark.parametrize(
    ("first", "second", "types"),
    [
        (
            [CALL, ("StreamSid", "MZ1"), ("StreamEvent", "stream-started")],
            [CALL, ("StreamSid", "MZ1"), ("StreamEvent", "stream-stopped")],
            ["stream.started", "stream.stopped"],
        ),
        (
            [CALL, ("ConferenceSid", "CF1"), ("StatusCallbackEvent", "participant-join")],
            [CALL, ("ConferenceSid", "CF1"), ("StatusCallbackEvent", "participant-leave")],
            ["other", "other"],
        ),
        (
            [CALL, ("TranscriptionSid", "TR1"), ("TranscriptionText", "hello")],
            [CALL, ("TranscriptionSid", "TR2"), ("TranscriptionText", "hello")],
            ["other", "other"],
        ),
        (
            [*ASKED, ("RecordingUrl", "https://api.twilio.com/RE1"), ("Digits", "hangup")],
            [*ASKED, ("RecordingUrl", "https://api.twilio.com/RE2"), ("Digits", "hangup")],
            ["call.updated", "call.updated"],
        ),
        (
            [*TRANSCRIBED, ("TranscriptionSid", "TR1"), ("TranscriptionStatus", "completed")],
            [*TRANSCRIBED, ("TranscriptionSid", "TR2"), ("TranscriptionStatus", "failed")],
            ["transcript.final", "other"],
        ),
        (
            [*ANSWERED, ("SequenceNumber", "2"), ("CallbackSource", "call-progress-events")],
            [*HEARD, ("UnstableSpeechResult", "I want"), ("SequenceNumber", "2")],
            ["call.answered", "transcript.partial"],
        ),
        (
            [*HEARD, ("UnstableSpeechResult", "I want"), ("SequenceNumber", "0")],
            [*HEARD, ("UnstableSpeechResult", "yes"), ("SequenceNumber", "0")],
            ["transcript.partial", "transcript.partial"],
        ),
    ],
)
def test_two_events_of_one_call_are_two_rows(receiver, db, first, second, types):
    for pairs in (first, second, second):
        assert twilio(pairs).to(receiver).status == 200

    assert [row.event_type for row in rows(db)] == types
    assert [row.subject for row in rows(db)] == ["call/CA1"] * 2
    assert len(duplicates(db)) == 1


def test_two_urls_asked_for_instructions_are_two_events(receiver, db):
    pairs = [*ASKED, ("CallStatus", "in-progress"), ("Direction", "inbound")]
    for target in ("/webhooks/twilio?step=menu", "/webhooks/twilio?step=hold", "/webhooks/twilio?step=menu"):
        twilio(pairs, target).to(receiver)

    assert len(rows(db)) == 2
    assert len(duplicates(db)) == 1


def test_a_request_with_only_caller_called_and_call_is_an_incoming_call(receiver, db):
    twilio(ASKED).to(receiver)

    assert [(row.event_type, row.provider_type) for row in rows(db)] == [("call.incoming", "voice-url")]


def test_what_no_rule_knows_is_kept_as_other_one_row_for_each_distinct_content(receiver, db):
    for value in ("1", "2", "1"):
        twilio([CALL, ("Unheard", value)]).to(receiver)

    assert [row.event_type for row in rows(db)] == ["other", "other"]


def voice_event(name, **parameters):
    """Return an element as twilio.com/docs/events/event-types/voice/status-callback shows it, with its own values."""
    return {
        "specversion": "1.0",
        "type": name,
        "source": "AB00000000000000000000000001",
        "id": "NO00000000000000000000000001",
        "dataschema": "https://events-schemas.twilio.com/Voice.WebhookEvent/2",
        "datacontenttype": "2025-10-08T07:17:02.363Z",
        "data": {
            "sid": "CA0000000000000000000000000000001",
            "requestDateCreated": "Sun, 24 Aug 2025 13:49:54 +0000",
            "timestamp": "2025-01-01T00:00:00.000Z",
            "eventSid": "VW0000000000000000000000000000001",
            "request": {"method": "POST", "url": "https://mycompany.com/an-endpoint", "parameters": parameters},
        },
    }


@pytest.mark.parametrize(
    ("name", "parameters", "event_type"),
    [
        ("com.twilio.voice.status-callback.call.completed", {}, "call.completed"),
        ("com.twilio.voice.status-callback.call.completed", {"CallStatus": "completed"}, "call.completed"),
        ("com.twilio.voice.status-callback.call.completed", {"CallStatus": "busy"}, "call.busy"),
        ("com.twilio.voice.webhook.status-callback.call.completed", {"CallStatus": "no-answer"}, "call.no_answer"),
        ("com.twilio.voice.status-callback.call.answered", {"CallStatus": "in-progress"}, "call.answered"),
        ("com.twilio.voice.status-callback.call.ringing", {"CallStatus": "unheard"}, "call.ringing"),
        ("com.twilio.voice.status-callback.amd.detected", {"AnsweredBy": "human"}, "call.amd"),
        ("com.twilio.voice.status-callback.recording.processed", {"CallStatus": "completed"}, "other"),
    ],
)
def test_a_voice_event_of_event_streams_is_the_callback_in_it(name, parameters, event_type, receiver, db):
    twilio_json(json.dumps([voice_event(name, **parameters)]).encode()).to(receiver)

    (row,) = rows(db)
    assert (row.event_type, row.provider_type, row.event_id) == (event_type, name, "NO00000000000000000000000001")
    assert (row.subject, row.occurred_at) == (
        "call/CA0000000000000000000000000000001",
        datetime(2025, 1, 1, tzinfo=UTC),
    )


TEXT = [("MessageSid", "SM1"), ("From", "+15555550100"), ("To", "+15555550142"), ("Body", "Hi"), ("NumMedia", "0")]


def test_an_incoming_message_is_one_with_and_without_a_status(receiver, db):
    """twilio.com/docs/messaging/guides/webhook-request names no SmsStatus; what is sent has one, received."""
    for pairs in (TEXT, [*TEXT, ("SmsStatus", "received")]):
        assert twilio(pairs).to(receiver).status == 200

    assert [(row.event_type, row.provider_type, row.event_id) for row in rows(db)] == [
        ("message.received", "received", "SM1:received")
    ]
    assert len(duplicates(db)) == 1


@pytest.mark.parametrize(
    ("fields", "event_type"),
    [
        ([("EventType", "onMessageAdded"), ("ConversationSid", "CH1"), ("MessageSid", "IM1")], "message.updated"),
        ([("EventType", "onParticipantAdded"), ("ConversationSid", "CH1"), ("ParticipantSid", "MB1")], "other"),
        ([("EventType", "task.created"), ("TaskSid", "WT1"), ("WorkspaceSid", "WS1")], "other"),
    ],
)
def test_the_kind_that_conversations_and_taskrouter_name_is_kept(fields, event_type, receiver, db):
    """EventType: twilio.com/docs/conversations/conversations-webhooks, .../taskrouter/api/event/reference."""
    twilio(fields).to(receiver)

    assert [(row.event_type, row.provider_type) for row in rows(db)] == [(event_type, fields[0][1])]
