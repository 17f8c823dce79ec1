"""Dialpad's call and SMS events, and the ``{"call": {...}}`` of the seed document.

Facts (developers.dialpad.com, call events and SMS events; tests/vectors/payloads-dialpad.json): ids are 64-bit
integers, kept as text. Times are ms since 1970, durations ms as floats: ``duration`` the call's, ``talk_time`` without
hold, ``total_duration`` with ringing. external_number is the other party, internal_number ours. A call has a leg for
each agent it was offered to: master_call_id and entry_point_call_id join them. With a secret the whole body is a JWT;
event.payload is what was in it. The seed's durations are seconds and its times ISO 8601.
"""

from decimal import Decimal
from typing import Any

from handlers.models import (
    CALL_STATES,
    ENDS,
    MESSAGE_STATES,
    CallEvent,
    Direction,
    Id,
    MessageEvent,
    Number,
    Payload,
    Text,
    Time,
    about,
    read,
)
from processor import Event

DIRECTIONS: dict[str, Direction] = {"inbound": "inbound", "outbound": "outbound"}


class Recording(Payload):
    """One of recording_details."""

    url: Text = None
    duration: Number = None


class Call(Payload):
    """A call event."""

    call_id: Id
    direction: Text = None
    external_number: Text = None
    internal_number: Text = None
    date_started: Time = None
    date_connected: Time = None
    date_ended: Time = None
    duration: Number = None
    talk_time: Number = None
    total_duration: Number = None
    master_call_id: Text = None
    entry_point_call_id: Text = None
    recording_details: list[Recording] | None = None
    voicemail_link: Text = None
    transcription_text: Text = None


class SeedCall(Payload):
    """The call of the seed document's events."""

    id: Id
    direction: Text = None
    from_number: Text = None
    to_number: Text = None
    started_at: Time = None
    ended_at: Time = None
    duration: Number = None
    recording_url: Text = None


class Sms(Payload):
    """An SMS event. to_number: a list, or one text in the seed."""

    id: Id
    direction: Text = None
    from_number: Text = None
    to_number: list[str] | str | None = None
    text: str | None = None
    text_content: str | None = None
    message_delivery_result: Text = None
    created_date: Time = None


def call_event(event: Event) -> CallEvent:
    """Return what an event says of its call. Raises Invalid."""
    who = f"dialpad {event.provider_type or event.event_type}"
    fields = event.payload
    if isinstance(fields, dict) and "call_id" not in fields and isinstance(fields.get("call"), dict):
        return _seed_event(event, read(SeedCall, _seed_names(fields["call"]), who))
    call = read(Call, fields, who)
    state = CALL_STATES.get(event.event_type)
    inbound = call.direction == "inbound"
    recording = next(iter(call.recording_details or []), Recording())
    return CallEvent(
        **about(event),
        call_id=call.call_id,
        state=state,
        direction=DIRECTIONS.get(call.direction or ""),
        from_number=call.external_number if inbound else call.internal_number,
        to_number=call.internal_number if inbound else call.external_number,
        ended_at=call.date_ended,
        ended_reason=(event.provider_type or None) if state in ENDS else None,
        duration_seconds=_seconds(call.duration),
        talk_seconds=_seconds(call.talk_time),
        total_seconds=_seconds(call.total_duration),
        recording_url=recording.url,
        recording_seconds=_seconds(recording.duration),
        voicemail_url=call.voicemail_link,
        transcript=call.transcription_text,
        master_call_id=call.master_call_id,
        entry_point_call_id=call.entry_point_call_id,
    )


def message_event(event: Event) -> MessageEvent:
    """Return what an SMS event says. Raises Invalid."""
    who = f"dialpad {event.provider_type or event.event_type}"
    fields = event.payload
    sms = read(Sms, _seed_names(fields) if isinstance(fields, dict) else fields, who)
    numbers = [sms.to_number] if isinstance(sms.to_number, str) else sms.to_number
    inbound = event.event_type == "message.received" or sms.direction == "inbound"
    return MessageEvent(
        **about(event),
        message_id=sms.id,
        state=MESSAGE_STATES.get(event.event_type),
        direction="inbound" if inbound else "outbound",
        from_number=sms.from_number,
        to_numbers=numbers,
        text=sms.text if sms.text is not None else sms.text_content,
        delivery_result=sms.message_delivery_result,
        sent_at=sms.created_date,
    )


def _seed_event(event: Event, call: SeedCall) -> CallEvent:
    state = CALL_STATES.get(event.event_type)
    time = call.ended_at if state in ENDS else call.started_at
    return CallEvent(
        **about(event, time),
        call_id=call.id,
        state=state,
        direction=DIRECTIONS.get(call.direction or ""),
        from_number=call.from_number,
        to_number=call.to_number,
        ended_at=call.ended_at,
        ended_reason=(event.provider_type or None) if state in ENDS else None,
        duration_seconds=call.duration,
        recording_url=call.recording_url,
    )


def _seed_names(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields with the seed's from, to and sent_at under Dialpad's names, where those aren't there."""
    found = {"from_number": fields.get("from"), "to_number": fields.get("to"), "created_date": fields.get("sent_at")}
    return {**{name: value for name, value in found.items() if value is not None}, **fields}


def _seconds(milliseconds: Decimal | None) -> Decimal | None:
    return None if milliseconds is None else milliseconds / 1000
