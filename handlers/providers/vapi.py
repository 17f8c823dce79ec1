"""Vapi's server messages: the envelope ``{"message": {...}}``, and the flat ``{"type", "call"}`` of the seed document.

Facts (VapiAI/docs, openapi.json; tests/vectors/payloads-vapi.json, vapi-ended-reasons.json): ``message.call`` is a
snapshot of earlier, ``message.status`` counts. A report comes seconds after the end and says how the call ended as
well, so that a call whose last status-update was lost ends all the same. Times of a call are ISO 8601, ``cost`` is in
US dollars. ``customer`` is the other party; ``call.type`` says who called.
"""

import json
import re
from decimal import Decimal
from typing import Any

from handlers.models import (
    CALL_STATES,
    ENDS,
    CallEvent,
    CallState,
    Direction,
    Id,
    Invalid,
    Payload,
    Text,
    Time,
    about,
    read,
)
from processor import Event

DIRECTIONS: dict[str, Direction] = {"inboundPhoneCall": "inbound", "outboundPhoneCall": "outbound"}

# How a call ended whose report says so: the rules that the receiver has for a status-update's endedReason; a test
# holds both over all 595 reasons. First match counts; a reason that matches none is an end like any other where the
# call had started, else a failure.
ENDED: list[tuple[str, CallState]] = [
    (r"customer-busy", "busy"),
    (r"customer-did-not-answer", "no_answer"),
    (r"manually-canceled|(scheduled-)?call-deleted", "canceled"),
    (r"call\.ringing\.sip-inbound-caller-hungup-before-call-connect", "canceled"),
    (r"(customer|assistant)-(ended|said-end|forwarded)-?call.*|assistant-said-end-call-phrase|voicemail", "completed"),
    (r"silence-timed-out|exceeded-max-duration|vonage-(disconnected|completed)", "completed"),
    (r"call\.in-progress\.(twilio|sip)-completed-call|call\.(ringing|ending)\.hook-executed-.*", "completed"),
    (r"call\.forwarding\.operator-busy|assistant-request-returned-forwarding-phone-number", "completed"),
    (r".*(error|fail|reject|invalid|not-valid|not-found|no-assistant|shutdown|misdialed|no-answer|closed).*", "failed"),
    (r".*(join-timed-out|did-not-give|no-call-received|unallocated).*", "failed"),
]


class Customer(Payload):
    """The other party."""

    number: Text = None


class Call(Payload):
    """The snapshot of the call; the flat form has the call's end in it, too."""

    id: Id
    type: Text = None
    customer: Customer | None = None
    phoneNumber: Customer | None = None  # noqa: N815 - Vapi's name
    phoneCallProviderId: Text = None  # noqa: N815
    campaignId: Text = None  # noqa: N815
    startedAt: Time = None  # noqa: N815
    endedAt: Time = None  # noqa: N815
    endedReason: Text = None  # noqa: N815
    cost: Decimal | None = None
    recordingUrl: Text = None  # noqa: N815
    transcript: Any = None


class Artifact(Payload):
    """What is left of a call."""

    transcript: Any = None
    recordingUrl: Text = None  # noqa: N815


class Message(Payload):
    """A server message, as far as it is about a call."""

    call: Call
    customer: Customer | None = None
    artifact: Artifact | None = None
    startedAt: Time = None  # noqa: N815
    endedAt: Time = None  # noqa: N815
    endedReason: Text = None  # noqa: N815
    cost: Decimal | None = None


def call_event(event: Event) -> CallEvent:
    """Return what a message says of its call. Raises Invalid."""
    who = f"vapi {event.provider_type or event.event_type}"
    fields = event.payload
    if not isinstance(fields, dict):
        raise Invalid(f"{who}: expected an object with message or call")
    message = read(Message, fields.get("message", fields), who)
    call, artifact = message.call, message.artifact or Artifact()
    reason = message.endedReason or call.endedReason
    started_at, ended_at = message.startedAt or call.startedAt, message.endedAt or call.endedAt
    state = CALL_STATES.get(event.event_type)
    if event.event_type == "call.report":
        state = ended_state(reason or "", started=started_at is not None)
    direction = DIRECTIONS.get(call.type or "")
    customer = (message.customer or call.customer or Customer()).number
    ours = (call.phoneNumber or Customer()).number
    cost = message.cost if message.cost is not None else call.cost
    return CallEvent(
        **about(event, ended_at if state in ENDS else None),
        call_id=call.id,
        state=state,
        direction=direction,
        from_number=customer if direction == "inbound" else ours,
        to_number=ours if direction == "inbound" else customer,
        ended_at=ended_at,
        ended_reason=reason,
        duration_seconds=_seconds(started_at, ended_at),
        recording_url=artifact.recordingUrl or call.recordingUrl,
        transcript=_plain(artifact.transcript or call.transcript),
        cost_usd=cost,
        carrier_call_id=call.phoneCallProviderId,
        campaign_id=call.campaignId,
    )


def ended_state(reason: str, *, started: bool) -> CallState:
    """Return what an ``endedReason`` made of the call; *started*: whether it says that anyone spoke."""
    found = next((state for pattern, state in ENDED if re.fullmatch(pattern, reason)), None)
    return found or ("completed" if started else "failed")


def _seconds(started_at: Any, ended_at: Any) -> Decimal | None:
    """Return the time between the two, None where one is not told or they contradict each other."""
    if not (started_at and ended_at) or ended_at < started_at:
        return None
    return Decimal(str((ended_at - started_at).total_seconds()))


def _plain(transcript: Any) -> str | None:
    """Return a transcript as text; one in parts as their JSON; None for an empty one."""
    if not transcript:
        return None
    return transcript if isinstance(transcript, str) else json.dumps(transcript, ensure_ascii=False, default=str)
