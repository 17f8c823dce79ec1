"""What Vapi's server messages are about: their normalised types, keys and subjects.

No event id, no delivery id. ``message.call.status`` is a stale snapshot; ``message.status`` counts.
``status-update`` and ``end-of-call-report`` happen once a call and status, ``tool-calls`` have an id, the
rest are told apart by their timestamps. ``hang`` is a delay, not a hang-up.

Sources: VapiAI/docs (events, openapi.json); tests/vectors/payloads-vapi.json, vapi-ended-reasons.json. The flat
``{"type": "call.answered", "call": {...}}`` is of the project's first seed document; both are taken.
"""

import re
from typing import Any

from receiver.delivery import Delivery, Identity, about, digest_of, key, unparseable
from receiver.reading import Unparseable, part, read_object, scalar, word
from receiver.times import first_of, from_epoch, from_text

STATUSES = {
    "scheduled": "call.scheduled",
    "queued": "call.queued",
    "ringing": "call.ringing",
    "in-progress": "call.answered",
    "forwarding": "call.transfer",
}
TYPES = {
    "end-of-call-report": "call.report",
    "transfer-update": "call.transfer",
    "call.deleted": "call.deleted",
    "hang": "dialogue.stalled",
    "conversation-update": "dialogue.updated",
    "model-output": "dialogue.updated",
    "speech-update": "dialogue.turn",
    "user-interrupted": "dialogue.turn",
    "assistant.speechStarted": "dialogue.turn",
    "tool-calls": "dialogue.request",
    "phone-call-control": "dialogue.request",
    "campaign.predial": "dialogue.request",
}
SEED_TYPES = {
    "call.started": "call.queued",
    "call.queued": "call.queued",
    "call.ringing": "call.ringing",
    "call.answered": "call.answered",
    "call.failed": "call.failed",
}
# Vapi's schema lists 595 reasons and says of none what became of the call. These, and whatever else names
# neither an error nor a failure, are how calls end; the test holds the mapping over the whole list.
ENDED = {
    "customer-busy": "call.busy",
    "customer-did-not-answer": "call.no_answer",
    "manually-canceled": "call.canceled",
    "scheduled-call-deleted": "call.canceled",
    "call-deleted": "call.canceled",
    "call.ringing.sip-inbound-caller-hungup-before-call-connect": "call.canceled",
}
COMPLETED = re.compile(
    r"(customer|assistant)-(ended|said-end|forwarded)-?call.*|assistant-said-end-call-phrase|voicemail"
    r"|silence-timed-out|exceeded-max-duration|vonage-(disconnected|completed)"
    r"|call\.in-progress\.(twilio|sip)-completed-call|call\.(ringing|ending)\.hook-executed-.*"
    r"|call\.forwarding\.operator-busy|assistant-request-returned-forwarding-phone-number"
)
FAILED = re.compile(
    r"error|fail|reject|invalid|not-valid|not-found|no-assistant|shutdown|misdialed|no-answer|closed"
    r"|join-timed-out|did-not-give|no-call-received|unallocated"
)


def identify(delivery: Delivery, _options: object) -> list[Identity]:
    """Name the one event of an authentic delivery."""
    try:
        fields, payload = read_object(delivery.body)
    except Unparseable as error:
        return [unparseable(delivery, f"vapi: {error}")]
    message = fields.get("message")
    classify = _message if isinstance(message, dict) else _flat
    message = message if isinstance(message, dict) else fields
    event_type, provider_type, event_id = classify(message)
    call = scalar(part(message, "call", "id"))
    return [
        Identity(
            event_id or digest_of(delivery.body),
            event_type,
            provider_type,
            about("call", call),
            first_of((from_epoch(message.get("timestamp")), from_text(message.get("timestamp")))),
            payload,
        )
    ]


def ended_type(reason: str, *, started: bool) -> str:
    """Return what an ``endedReason`` made of the call; *started*: whether it says that anyone spoke."""
    if COMPLETED.fullmatch(reason):
        return "call.completed"
    if FAILED.search(reason) and reason not in ENDED:
        return "call.failed"
    return ENDED.get(reason, "call.completed" if started else "call.failed")


def _message(message: dict[str, Any]) -> tuple[str, str, str | None]:
    """Return event_type, provider_type and event_id of the real envelope; event_id None: nothing names it."""
    kind, time = word(message.get("type")), scalar(message.get("timestamp"))
    call = scalar(part(message, "call", "id"))
    plain = kind.partition("[")[0]  # transcript[transcriptType="final"] is a transcript, too
    if plain == "status-update":
        return _status_update(message, call)
    if plain == "transcript":
        event_type = f"transcript.{'final' if message.get('transcriptType') == 'final' else 'partial'}"
        return (
            event_type,
            kind,
            (
                key(call, kind, word(message.get("role")), word(message.get("transcriptType")), time)
                if call and time
                else None
            ),
        )
    request = plain.endswith(("-request", ".request"))
    event_type = TYPES.get(plain, "dialogue.request" if request else "other")
    if plain in ("end-of-call-report", "assistant-request", "call.deleted"):
        return event_type, kind, key(call, kind) if call else None
    if plain == "tool-calls" and (tool := _first_tool(message)):
        return event_type, kind, key(call, kind, tool) if call else None
    told = (word(message.get("role")), word(message.get("status")), scalar(message.get("turn")), time)
    return event_type, kind, key(call, kind, *told) if call and time else None


def _status_update(message: dict[str, Any], call: str | None) -> tuple[str, str, str | None]:
    status, reason = word(message.get("status")), word(message.get("endedReason"))
    if status == "ended":
        started = bool(message.get("startedAt") or part(message, "call", "startedAt"))
        event_type = ended_type(reason, started=started)
    else:
        event_type = STATUSES.get(status, "call.updated")
    provider_type = ":".join(filter(None, ("status-update", status, reason if status == "ended" else "")))
    return event_type, provider_type, key(call, "status-update", status) if call and status else None


def _flat(message: dict[str, Any]) -> tuple[str, str, str | None]:
    kind, call = word(message.get("type")), scalar(part(message, "call", "id"))
    if kind == "call.ended":
        reason = word(part(message, "call", "endedReason"))
        event_type = ended_type(reason, started=True)
    else:
        event_type = SEED_TYPES.get(kind, "other")
    once = event_type != "other"  # of a kind that we don't know a call may have many
    return event_type, kind, key(call, kind) if call and once else None


def _first_tool(message: dict[str, Any]) -> str | None:
    for name in ("toolCallList", "toolCalls"):
        calls = message.get(name)
        if isinstance(calls, list) and calls:
            return scalar(part(calls[0], "id"))
    return None
