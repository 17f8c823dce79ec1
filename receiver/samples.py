"""Signed sample deliveries, as each provider would send them: for trying an endpoint, and for the demo.

Signing lives here and beside verifying, in the receiver; the processor has none of it. Numbers are of the
range kept for fiction (555-01xx).
"""

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import urlencode

from receiver.delivery import Delivery
from receiver.providers import agent, dialpad, twilio, vapi
from receiver.providers.twilio_form import signed_fields
from receiver.settings import Source

ALICE, BOB = "+15555550100", "+15555550142"

JSON = {"content-type": "application/json"}

Fields = dict[str, Any]

# What makes each type what it is, in its provider's words.
TYPES: Mapping[str, Mapping[str, Fields]] = {
    "twilio": {
        "call.incoming": {"CallStatus": "ringing", "Direction": "inbound"},
        "call.queued": {"CallStatus": "queued", "SequenceNumber": "0"},
        "call.initiated": {"CallStatus": "initiated", "SequenceNumber": "0"},
        "call.ringing": {"CallStatus": "ringing", "SequenceNumber": "1"},
        "call.answered": {"CallStatus": "in-progress", "SequenceNumber": "2"},
        "call.completed": {"CallStatus": "completed", "SequenceNumber": "3", "CallDuration": "42"},
        "call.busy": {"CallStatus": "busy", "SequenceNumber": "2", "CallDuration": "0"},
        "call.no_answer": {"CallStatus": "no-answer", "SequenceNumber": "2", "CallDuration": "0"},
        "call.failed": {"CallStatus": "failed", "SequenceNumber": "2", "CallDuration": "0"},
        "call.canceled": {"CallStatus": "canceled", "SequenceNumber": "2", "CallDuration": "0"},
        "message.sent": {"MessageStatus": "sent", "SmsStatus": "sent"},
        "message.delivered": {"MessageStatus": "delivered", "SmsStatus": "delivered"},
        "message.undelivered": {"MessageStatus": "undelivered", "SmsStatus": "undelivered", "ErrorCode": "30003"},
        "message.received": {"SmsStatus": "received", "Body": "Yes, Tuesday works  ", "NumMedia": "0"},
    },
    "vapi": {
        "call.queued": {"type": "status-update", "status": "queued"},
        "call.ringing": {"type": "status-update", "status": "ringing"},
        "call.answered": {"type": "status-update", "status": "in-progress"},
        "call.completed": {"type": "status-update", "status": "ended", "endedReason": "customer-ended-call"},
        "call.busy": {"type": "status-update", "status": "ended", "endedReason": "customer-busy"},
        "call.no_answer": {"type": "status-update", "status": "ended", "endedReason": "customer-did-not-answer"},
        "call.report": {"type": "end-of-call-report", "endedReason": "customer-ended-call", "cost": 0.0473},
        "other": {"type": "language-change-detected", "language": "nl"},
    },
    "dialpad": {
        "call.initiated": {"state": "calling"},
        "call.ringing": {"state": "ringing"},
        "call.answered": {"state": "connected", "date_connected": True},
        "call.completed": {"state": "hangup", "date_connected": True, "duration": 43000.12},
        "call.no_answer": {"state": "hangup", "date_connected": None, "duration": 0},
        "call.missed": {"state": "missed"},
        "message.received": {"direction": "inbound", "message_status": "pending"},
        "message.delivered": {"direction": "outbound", "message_status": "success"},
    },
    "agent": {
        "call.answered": {"event_type": "call_answered", "outcome": {}},
        "call.completed": {
            "event_type": "call_completed",
            "outcome": {"connected": True, "duration": 45, "customer_response": "will_pay_today"},
        },
        "call.failed": {
            "event_type": "call_failed",
            "outcome": {"connected": False, "duration": 0, "customer_response": "no_answer"},
        },
    },
}


class NoSample(ValueError):
    """No sample of that type; the message lists those there are."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What to send: a type of a source's provider, about a subject, with fields of one's own over it.

    subject_id: "" makes up a new one. forged: signed with a secret that isn't the source's.
    """

    event_type: str
    subject_id: str = ""
    override: Mapping[str, Any] | None = None
    forged: bool = False


def build(source: Source, sample: Sample, now: datetime) -> Delivery:
    """Return a delivery to *source*, signed with the first of its secrets. Raises NoSample."""
    types = TYPES[source.provider]
    if sample.event_type not in types:
        raise NoSample(f"no sample {sample.event_type!r} of {source.provider}; there are {', '.join(types)}")
    fields = {**types[sample.event_type], **(sample.override or {})}
    secret = secrets.token_bytes(32) if sample.forged or not source.secrets else source.secrets[0].value
    return BUILDERS[source.provider](source, fields, sample.subject_id, secret, now)


def _twilio(source: Source, fields: Fields, subject_id: str, secret: bytes, now: datetime) -> Delivery:
    common: Fields = {"AccountSid": "AC" + "0" * 32, "ApiVersion": "2010-04-01", "From": ALICE, "To": BOB}
    if "CallStatus" in fields:
        common |= {"CallSid": subject_id or "CA" + secrets.token_hex(16), "Direction": "outbound-api", "CallerCity": ""}
        if "SequenceNumber" in fields:
            common |= {"CallbackSource": "call-progress-events", "Timestamp": format_datetime(now)}
    else:
        sid = subject_id or "SM" + secrets.token_hex(16)
        common |= {"MessageSid": sid, "SmsSid": sid}
    body = urlencode({**common, **fields}).encode()
    headers = {"content-type": "application/x-www-form-urlencoded; charset=UTF-8"}
    delivery = _unsigned(source, headers, body)
    signature = twilio.sign(secret, delivery.url.encode() + signed_fields(delivery)).decode()
    return replace(delivery, headers={**headers, twilio.SIGNATURE: signature})


def _vapi(source: Source, fields: Fields, subject_id: str, secret: bytes, now: datetime) -> Delivery:
    call = {"id": subject_id or secrets.token_hex(16), "type": "outboundPhoneCall", "customer": {"number": BOB}}
    message = {**fields, "timestamp": _ms(now), "call": call}
    delivery = _unsigned(source, JSON, json.dumps({"message": message}).encode())
    return replace(delivery, headers={**JSON, **vapi.credentials(delivery, secret, source.options, now.timestamp())})


def _dialpad(source: Source, fields: Fields, subject_id: str, secret: bytes, now: datetime) -> Delivery:
    number = int(subject_id) if subject_id.isdigit() else secrets.randbelow(2**52) + 2**52
    event: Fields = {"event_timestamp": _ms(now), "external_number": ALICE, "internal_number": BOB}
    if "state" in fields:
        event |= {"call_id": number, "direction": "inbound", **fields}
        event["date_connected"] = _ms(now) if fields.get("date_connected") else None
    else:
        event |= {"id": number, "from_number": ALICE, "to_number": [BOB], **fields}
    payload = json.dumps(event).encode()
    body = payload if source.options.insecure else dialpad.sign(secret, payload)
    return _unsigned(source, {"content-type": "application/jwt"}, body)


def _agent(source: Source, fields: Fields, subject_id: str, secret: bytes, _now: datetime) -> Delivery:
    body = json.dumps({"reminder_id": subject_id or f"rem_{secrets.token_hex(4)}", **fields}).encode()
    return _unsigned(source, {**JSON, agent.SIGNATURE: agent.sign(secret, body)}, body)


def _unsigned(source: Source, headers: Mapping[str, str], body: bytes) -> Delivery:
    return Delivery("POST", source.base_url, source.paths[0], headers, body)


BUILDERS: dict[str, Callable[[Source, Fields, str, bytes, datetime], Delivery]] = {
    "twilio": _twilio,
    "vapi": _vapi,
    "dialpad": _dialpad,
    "agent": _agent,
}


def _ms(now: datetime) -> int:
    return int(now.astimezone(UTC).timestamp() * 1000)
