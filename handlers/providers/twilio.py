"""Twilio's forms, and the data of its Event Streams: voice and messaging.

Facts (twilio.com/docs: voice/api/call-resource#statuscallback, messaging/guides/outbound-message-status-in-status-
callbacks; tests/vectors/payloads-twilio.json): ``Duration`` is in minutes, ``CallDuration`` in seconds and sent with
the end only. A blank means nothing. A message's status has no time. Numbers of WhatsApp are ``whatsapp:+1...``.
The application's own ids, campaign_id, contact_id and call_id, come in the query of the callback's URL.
"""

from typing import Any

from pydantic import AliasChoices, Field

from handlers.models import (
    CALL_STATES,
    ENDS,
    MESSAGE_STATES,
    CallEvent,
    Code,
    Direction,
    Id,
    MessageEvent,
    Number,
    Payload,
    Text,
    about,
    read,
)
from processor import Event


class Voice(Payload):
    """Of a voice request: status callback, TwiML fetch, answering machine detection, recording."""

    CallSid: Id
    From: Text = None
    To: Text = None
    Direction: Text = None
    CallDuration: Number = None
    SipResponseCode: Code = None
    ErrorCode: Text = None
    AnsweredBy: Text = None
    RecordingUrl: Text = None
    RecordingDuration: Number = None
    ParentCallSid: Text = None


class Message(Payload):
    """Of a messaging request: status callback or inbound message."""

    MessageSid: Id = Field(validation_alias=AliasChoices("MessageSid", "SmsSid"))
    From: Text = None
    To: Text = None
    Body: str | None = None
    ErrorCode: Text = None


def call_event(event: Event) -> CallEvent:
    """Return what a voice request says of its call. Raises Invalid."""
    who = f"twilio {event.event_type}"
    voice = read(Voice, _fields(event), who)
    query = event.query
    state = CALL_STATES.get(event.event_type)
    # A status callback has them as well, of the whole call; they are the recording's own in its callback.
    recorded = event.event_type.startswith("recording.") or state is not None
    return CallEvent(
        **about(event),
        call_id=voice.CallSid,
        state=state,
        direction=_direction(voice.Direction),
        from_number=voice.From,
        to_number=voice.To,
        ended_reason=(event.provider_type or None) if state in ENDS else None,
        duration_seconds=voice.CallDuration,
        sip_code=voice.SipResponseCode,
        error_code=None if voice.ErrorCode == "0" else voice.ErrorCode,
        answered_by=voice.AnsweredBy,
        recording_url=voice.RecordingUrl if recorded else None,
        recording_seconds=voice.RecordingDuration if recorded else None,
        parent_call_id=voice.ParentCallSid,
        campaign_id=query.get("campaign_id") or None,
        contact_id=query.get("contact_id") or None,
        attempt_id=query.get("call_id") or None,
    )


def message_event(event: Event) -> MessageEvent:
    """Return what a messaging request says of its message. Raises Invalid."""
    message = read(Message, _fields(event), f"twilio {event.event_type}")
    inbound = event.event_type == "message.received"
    return MessageEvent(
        **about(event),
        message_id=message.MessageSid,
        state=MESSAGE_STATES.get(event.event_type),
        direction="inbound" if inbound else "outbound",
        from_number=message.From,
        to_numbers=[message.To] if message.To else None,
        text=message.Body,
        error_code=None if message.ErrorCode == "0" else message.ErrorCode,
    )


def _fields(event: Event) -> Any:
    """Return a form's fields; of an Event Streams element its data, and what a callback in it was sent with.

    The data's names differ in their first letter's case. A voice event holds a callback, and the call's id as sid.
    """
    fields = event.payload
    if isinstance(fields, dict) and isinstance(data := fields.get("data"), dict) and "specversion" in fields:
        request = data.get("request")
        sent = request.get("parameters") if isinstance(request, dict) else None
        call = {"CallSid": data["sid"]} if "sid" in data else {}
        own = {name[:1].upper() + name[1:]: value for name, value in data.items()}
        return call | own | (sent if isinstance(sent, dict) else {})
    return fields


def _direction(word: str | None) -> Direction | None:
    """Return inbound, or outbound for outbound-api and outbound-dial."""
    found: dict[str, Direction] = {"inbound": "inbound", "outbound": "outbound"}
    return found.get((word or "").partition("-")[0])
