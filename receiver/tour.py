"""The demo's deliveries: real, signed, of all four providers, and one of each kind of trouble.

The processor's demo handlers (processor/demo_handlers.py) know two of them by their notes.
"""

import secrets
from collections.abc import Iterator

from receiver.samples import Sample

Step = tuple[str, Sample, str]  # source, sample, what is special about it


def tour() -> Iterator[Step]:
    """Yield what to send, in order; subjects are new at every call."""
    call, busy, incoming = (f"CA{secrets.token_hex(16)}" for _ in range(3))
    message, lost = (f"SM{secrets.token_hex(16)}" for _ in range(2))
    vapi_call, vapi_busy = secrets.token_hex(16), secrets.token_hex(16)
    dialpad_call, dialpad_missed = (str(2**52 + secrets.randbelow(2**52)) for _ in range(2))
    paid, flaky, unknown = (f"rem_{name}_{secrets.token_hex(3)}" for name in ("paid", "flaky", "unknown"))

    for event_type in ("call.initiated", "call.ringing", "call.answered"):
        yield "twilio", Sample(event_type, call), ""
    yield "twilio", Sample("call.answered", call), "a duplicate: the same event again"
    yield "twilio-voice", Sample("call.incoming", incoming), "answered with TwiML at the door"
    yield "twilio", Sample("call.completed", call, forged=True), "forged: signed with another token"
    yield "twilio", Sample("call.completed", call), ""
    for event_type in ("call.initiated", "call.busy"):
        yield "twilio", Sample(event_type, busy), ""
    yield "twilio", Sample("call.ringing", busy), "late: arrives after busy, and changes nothing"
    for event_type in ("message.sent", "message.delivered"):
        yield "twilio", Sample(event_type, message), ""
    yield "twilio", Sample("message.undelivered", lost), ""
    yield "twilio", Sample("message.received"), ""
    for event_type in ("call.queued", "call.ringing", "call.answered"):
        yield "vapi", Sample(event_type, vapi_call), ""
    yield "vapi", Sample("other", vapi_call), "a type that no handler is for"
    yield "vapi", Sample("call.completed", vapi_call), ""
    for event_type in ("call.queued", "call.busy"):
        yield "vapi", Sample(event_type, vapi_busy), ""
    for event_type in ("call.ringing", "call.answered", "call.completed"):
        yield "dialpad", Sample(event_type, dialpad_call), ""
    for event_type in ("call.ringing", "call.missed"):
        yield "dialpad", Sample(event_type, dialpad_missed), ""
    yield "dialpad", Sample("message.received"), ""
    for event_type in ("call.answered", "call.completed"):
        yield "agent", Sample(event_type, paid), ""
    notes = {"connected": True, "duration": 12, "notes": "demo: fails once"}
    yield "agent", Sample("call.completed", flaky, {"outcome": notes}), "its handler fails once, then succeeds"
    notes = {"connected": True, "duration": 3, "notes": "demo: no such reminder"}
    yield "agent", Sample("call.completed", unknown, {"outcome": notes}), "its handler gives it up: a dead letter"
