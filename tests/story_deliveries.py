"""What the providers of the stories send: the full payloads of tests/vectors, with ids and times of a story's own.

Each goes to a source of its tenant. The stories happened on one day long ago, so that a time of ours, which is later,
is never taken for a provider's.
"""

import json
from dataclasses import replace
from datetime import UTC, date, datetime, time
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qsl

from tests import signing
from tests.signing import Signed
from tests.vector_cases import samples

DAY = date(2024, 5, 6)
BODIES = {
    sample["id"]: sample["request"].get("body", "")
    for provider in ("twilio", "vapi", "dialpad", "voice-agent")
    for sample in samples(provider)
}


def sources(app: str) -> list[dict[str, Any]]:
    """Return the sources of a tenant, one a provider, and one more for calls that wait for TwiML."""
    kinds: dict[str, dict[str, Any]] = {
        "twilio": {"paths": [f"/{app}/webhooks/telephony/events", f"/{app}/api/v1/webhooks/call-status"]},
        "voice": {
            "provider": "twilio",
            "paths": [f"/{app}/api/v1/webhooks/incoming-call"],
            "answer": {"greeting": f"This is {app}.", "stream_url": f"wss://{app}.example.com/stream"},
        },
        "vapi": {"paths": [f"/{app}/api/webhooks/vapi"]},
        "dialpad": {"paths": [f"/{app}/webhooks/dialpad"]},
        "agent": {"paths": [f"/{app}/api/webhooks/call-status"]},
    }
    return [
        {"name": f"{kind}-{app}", "provider": kind, "app_id": app, **options,
         "secrets": [f"env:{options.get('provider', kind).upper()}"]}
        for kind, options in kinds.items()
    ]  # fmt: skip


def at(clock: str) -> datetime:
    """Return a time of that day: ``10:00:02.5``."""
    return datetime.combine(DAY, time.fromisoformat(clock), UTC)


def ms(clock: str | None) -> int | None:
    """Return the same in ms since 1970; None for None."""
    return None if clock is None else round(at(clock).timestamp() * 1000)


def sid(prefix: str, number: int) -> str:
    return f"{prefix}{number:032x}"


def call_status(app: str, call: int, status: str, clock: str, *, query: str = "", **fields: str) -> Signed:
    """Twilio's status callback of a call that we placed, for an event that it was asked for."""
    told = {"CallSid": sid("CA", call), "Timestamp": format_datetime(at(clock)), **fields}
    return _twilio(f"/{app}/webhooks/telephony/events{query}", f"tw-call-{status}", **told)


def machine_detection(app: str, call: int, answered_by: str, query: str = "") -> Signed:
    """Twilio's, which has neither a time nor a status."""
    target = f"/{app}/webhooks/telephony/events{query}"
    return _twilio(target, "tw-amd-human", CallSid=sid("CA", call), AnsweredBy=answered_by)


def recording(app: str, call: int, seconds: int) -> Signed:
    """Twilio's recording callback; its subject is the recording, not the call."""
    told = {"RecordingSid": sid("RE", call), "RecordingUrl": recording_url(call), "RecordingDuration": str(seconds)}
    return _twilio(f"/{app}/webhooks/telephony/events", "tw-recording-completed", CallSid=sid("CA", call), **told)


def recording_url(call: int) -> str:
    return f"https://api.twilio.com/2010-04-01/Accounts/{sid('AC', 1)}/Recordings/{sid('RE', call)}"


def incoming_call(app: str, call: int, **parties: str) -> Signed:
    """Twilio's request for TwiML, which has no time."""
    target = f"/{app}/api/v1/webhooks/incoming-call"
    return _twilio(target, "tw-incoming-call-anonymous", CallSid=sid("CA", call), **parties)


def number_status(app: str, call: int, status: str, clock: str, **fields: str) -> Signed:
    """Twilio's callback of a phone number: once, when the incoming call is over."""
    told = {"CallSid": sid("CA", call), "CallStatus": status, "Timestamp": format_datetime(at(clock)), **fields}
    return _twilio(f"/{app}/api/v1/webhooks/call-status", "tw-call-completed-inbound", **told)


def message_status(app: str, message: int, status: str, **fields: str) -> Signed:
    """Twilio's status callback of an SMS, which has no time."""
    told = {"MessageSid": sid("SM", message), "SmsSid": sid("SM", message), **fields}
    return _twilio(f"/{app}/webhooks/telephony/events", f"tw-sms-{status}", **told)


def vapi(app: str, sample: str, call: str, clock: str, campaign: str | None = None, **fields: Any) -> Signed:
    """Vapi's server message; *fields* over those of the sample."""
    message = json.loads(BODIES[sample])["message"]
    message |= {"timestamp": ms(clock), **fields}
    message["call"] |= {"id": call, **({"campaignId": campaign} if campaign else {})}
    return _vapi(app, {"message": message})


def vapi_report(app: str, call: str, clock: str, campaign: str, ended: dict[str, Any], **fields: Any) -> Signed:
    """Vapi's end-of-call-report; *ended* is what it says of the end, beside the message and in its call."""
    sample = "vapi-end-of-call-report" if "startedAt" in ended else "vapi-end-of-call-report-not-answered"
    message = json.loads(BODIES[sample])["message"]
    message |= {"timestamp": ms(clock), **ended, **fields}
    message["call"] |= {"id": call, "campaignId": campaign, **ended}
    return _vapi(app, {"message": message})


def vapi_flat(app: str, kind: str, call: str, **told: Any) -> Signed:
    """The flat form of the seed document, which has no time but that of the end."""
    return _vapi(app, {"type": kind, "call": {"id": call, **told}})


def dialpad_call(
    app: str, call: int, state: str, clock: str, *, started: str, connected: str | None = None,
    ended: str | None = None, sample: str = "dialpad-ringing", **fields: Any,
) -> Signed:  # fmt: skip
    """Dialpad's call event."""
    event = json.loads(BODIES[sample])
    event |= {"date_rang": None, "date_first_rang": None, "recording_details": [], "state": state, "call_id": call}
    event |= {"date_started": ms(started), "date_connected": ms(connected), "date_ended": ms(ended)}
    return _dialpad(app, {**event, "event_timestamp": ms(clock), **fields})


def dialpad_sms(app: str, sample: str, message: int, clock: str, *, created: str) -> Signed:
    """Dialpad's SMS event; a result comes under the message's own id."""
    event = json.loads(BODIES[sample])
    return _dialpad(app, {**event, "id": message, "created_date": ms(created), "event_timestamp": ms(clock)})


def agent(app: str, reminder: str, event_type: str, clock: str, **outcome: Any) -> Signed:
    """Our voice agent's event, as its client sends it."""
    body = {"reminder_id": reminder, "event_type": event_type, "outcome": outcome,
            "event_id": f"{reminder}-{event_type}-{clock}", "occurred_at": at(clock).isoformat()}  # fmt: skip
    return replace(signing.agent(json.dumps(body).encode()), target=f"/{app}/api/webhooks/call-status")


def _twilio(target: str, sample: str, **fields: str) -> Signed:
    pairs = parse_qsl(BODIES[sample], keep_blank_values=True, strict_parsing=True)
    return signing.twilio((dict(pairs) | fields).items(), target)


def _vapi(app: str, value: Any) -> Signed:
    return replace(signing.vapi(json.dumps(value).encode()), target=f"/{app}/api/webhooks/vapi")


def _dialpad(app: str, value: Any) -> Signed:
    return replace(signing.dialpad(json.dumps(value).encode()), target=f"/{app}/webhooks/dialpad")
