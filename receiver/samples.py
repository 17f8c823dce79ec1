"""Signed sample deliveries, as each provider would send them: for trying an endpoint, and for the demo.

Signing lives here and beside verifying, in the receiver; the processor has none of it. Numbers are of the
range kept for fiction (555-01xx).
"""

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

from receiver.delivery import Delivery
from receiver.providers import agent, dialpad, twilio, vapi
from receiver.providers.twilio_form import signed_fields
from receiver.settings import Source

ALICE, BOB = "+15555550100", "+15555550142"

JSON = {"content-type": "application/json"}

Fields = dict[str, Any]

# ms, as Dialpad's: the call's, without hold, with ringing.
ANSWERED: Fields = {"duration": 43000.12, "talk_time": 38200.5, "total_duration": 51000.7}


def _twilio_end(status: str, sip_code: str, seconds: str = "0") -> Fields:
    return {"CallStatus": status, "SequenceNumber": "3", "CallDuration": seconds, "SipResponseCode": sip_code}


# What makes each type what it is, in its provider's words.
TYPES: Mapping[str, Mapping[str, Fields]] = {
    "twilio": {
        "call.incoming": {"CallStatus": "ringing", "Direction": "inbound"},
        "call.queued": {"CallStatus": "queued", "SequenceNumber": "0"},
        "call.initiated": {"CallStatus": "initiated", "SequenceNumber": "0"},
        "call.ringing": {"CallStatus": "ringing", "SequenceNumber": "1"},
        "call.answered": {"CallStatus": "in-progress", "SequenceNumber": "2"},
        "call.completed": _twilio_end("completed", "200", "42"),
        "call.busy": _twilio_end("busy", "486"),
        "call.no_answer": _twilio_end("no-answer", "487"),
        "call.failed": _twilio_end("failed", "404"),
        "call.canceled": _twilio_end("canceled", "487"),
        "call.amd": {"AnsweredBy": "human", "MachineDetectionDuration": "2100"},
        "recording.completed": {
            "RecordingStatus": "completed",
            "RecordingDuration": "41",
            "RecordingChannels": "2",
            "RecordingSource": "OutboundAPI",
            "ErrorCode": "0",
        },
        "message.queued": {"MessageStatus": "queued", "SmsStatus": "queued"},
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
        "call.report": {
            "type": "end-of-call-report",
            "endedReason": "customer-ended-call",
            "cost": 0.0473,
            "artifact": {
                "transcript": "AI: How can I help?\nUser: Tuesday is fine.\n",
                "recordingUrl": "https://storage.vapi.example/rec-mono.wav",
            },
        },
        "dialogue.turn": {"type": "speech-update", "status": "started", "role": "user"},
        "other": {"type": "language-change-detected", "language": "nl"},
    },
    "dialpad": {
        "call.initiated": {"state": "calling"},
        "call.ringing": {"state": "ringing"},
        "call.answered": {"state": "connected", "date_connected": True},
        "call.completed": {"state": "hangup", "date_connected": True, **ANSWERED},
        "call.no_answer": {"state": "hangup", "date_connected": None, "duration": 0},
        "call.missed": {"state": "missed"},
        "recording.completed": {
            "state": "recording",
            "date_connected": True,
            "recording_details": [{"url": "https://dialpad.example/rec/1.mp3", "duration": 37100.5}],
        },
        "message.received": {"direction": "inbound", "message_status": "pending", "text": "Is my order ready?"},
        "message.queued": {"direction": "outbound", "message_status": "pending", "text": "Yes, since noon."},
        "message.delivered": {"direction": "outbound", "message_status": "success", "text": "Yes, since noon."},
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

    subject_id: "" makes up a new one; of a recording it is its call's. forged: signed with a secret that isn't the
    source's. query: the parameters of the callback's URL. ago: how many seconds since it happened, by the provider's
    clock, where it sends one.
    """

    event_type: str
    subject_id: str = ""
    override: Mapping[str, Any] | None = None
    forged: bool = False
    query: Mapping[str, str] = field(default_factory=dict)
    ago: float = 0


@dataclass(frozen=True, slots=True)
class Making:
    """A sample in the making: its fields, when it happened, and what it is sent to and signed with."""

    source: Source
    sample: Sample
    fields: Fields
    secret: bytes
    now: datetime

    @property
    def at(self) -> datetime:
        """When it happened."""
        return self.now - timedelta(seconds=self.sample.ago)

    @property
    def ms(self) -> int:
        """The same in ms since 1970."""
        return int(self.at.astimezone(UTC).timestamp() * 1000)

    def unsigned(self, headers: Mapping[str, str], body: bytes) -> Delivery:
        """Return the delivery, without what proves it."""
        query = f"?{urlencode(self.sample.query)}" if self.sample.query else ""
        return Delivery("POST", self.source.base_url, self.source.paths[0] + query, headers, body)


def build(source: Source, sample: Sample, now: datetime) -> Delivery:
    """Return a delivery to *source*, signed with the first of its secrets that counts. Raises NoSample."""
    types = TYPES[source.provider]
    if sample.event_type not in types:
        raise NoSample(f"no sample {sample.event_type!r} of {source.provider}; there are {', '.join(types)}")
    fields = {**types[sample.event_type], **(sample.override or {})}
    ours = [one.value for one in source.secrets if one.counts(now.timestamp())]
    secret = secrets.token_hex(32).encode() if sample.forged or not ours else ours[0]
    return BUILDERS[source.provider](Making(source, sample, fields, secret, now))


def _twilio(making: Making) -> Delivery:
    fields, subject_id = making.fields, making.sample.subject_id
    common: Fields = {"AccountSid": "AC" + "0" * 32, "ApiVersion": "2010-04-01"}
    if making.sample.event_type.startswith("message."):
        sid = subject_id or "SM" + secrets.token_hex(16)
        common |= {"MessageSid": sid, "SmsSid": sid, "From": ALICE, "To": BOB}
    else:
        common |= {"CallSid": subject_id or "CA" + secrets.token_hex(16)}
    if "CallStatus" in fields:
        common |= {"From": ALICE, "To": BOB, "Direction": "outbound-api", "CallerCity": ""}
    if "SequenceNumber" in fields:
        common |= {"CallbackSource": "call-progress-events", "Timestamp": format_datetime(making.at)}
    if "RecordingStatus" in fields:
        sid = "RE" + secrets.token_hex(16)
        common |= {"RecordingSid": sid, "RecordingUrl": f"https://api.twilio.com/2010-04-01/Recordings/{sid}"}
    headers = {"content-type": "application/x-www-form-urlencoded; charset=UTF-8"}
    delivery = making.unsigned(headers, urlencode({**common, **fields}).encode())
    signature = twilio.sign(
        making.secret, delivery.url.encode() + signed_fields(delivery), making.source.options.algorithm
    ).decode()
    return replace(delivery, headers={**headers, twilio.SIGNATURE: signature})


def _vapi(making: Making) -> Delivery:
    fields, own = making.fields, making.fields.get("call")
    call = {"id": making.sample.subject_id or str(uuid4()), "type": "outboundPhoneCall", "customer": {"number": BOB}}
    message = {**fields, "timestamp": making.ms, "call": {**call, **(own if isinstance(own, dict) else {})}}
    if making.sample.event_type == "call.report":
        times = {"startedAt": making.at - timedelta(seconds=42), "endedAt": making.at}
        message = {**{name: time.astimezone(UTC).isoformat() for name, time in times.items()}, **message}
    delivery = making.unsigned(JSON, json.dumps({"message": message}).encode())
    proof = vapi.credentials(delivery, making.secret, making.source.options, making.now.timestamp())
    return replace(delivery, headers={**JSON, **proof})


def _dialpad(making: Making) -> Delivery:
    fields, subject_id = making.fields, making.sample.subject_id
    number = int(subject_id) if subject_id.isdigit() else secrets.randbelow(2**52) + 2**52
    event: Fields = {"event_timestamp": making.ms, "external_number": ALICE, "internal_number": BOB}
    if "state" in fields:
        event |= {"call_id": number, "direction": "inbound", **fields}
        event["date_connected"] = making.ms if fields.get("date_connected") else None
    else:
        sender, taker = (BOB, ALICE) if fields.get("direction") == "outbound" else (ALICE, BOB)
        event |= {"id": number, "from_number": sender, "to_number": [taker], **fields}
    payload = json.dumps(event).encode()
    body = payload if making.source.options.insecure else dialpad.sign(making.secret, payload)
    return making.unsigned({"content-type": "application/jwt"}, body)


def _agent(making: Making) -> Delivery:
    common: Fields = {
        "reminder_id": making.sample.subject_id or f"rem_{secrets.token_hex(4)}",
        "event_id": str(uuid4()),
        "occurred_at": making.at.astimezone(UTC).isoformat(timespec="milliseconds"),
    }
    body = json.dumps({**common, **making.fields}).encode()
    return making.unsigned({**JSON, agent.SIGNATURE: agent.sign(making.secret, body)}, body)


BUILDERS: dict[str, Callable[[Making], Delivery]] = {
    "twilio": _twilio,
    "vapi": _vapi,
    "dialpad": _dialpad,
    "agent": _agent,
}
