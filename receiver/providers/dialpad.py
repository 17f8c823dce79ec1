"""Dialpad: call and SMS events, the whole body a JWT.

With a secret on the webhook the body is a compact JWS, HS256, whose payload is the event; without one it
is plain JSON that anyone could have sent, taken only by a source that says ``insecure = true``. The
Content-Type of either isn't documented and isn't looked at. iat and exp aren't documented and aren't
required: a skewed clock would lose events.

No event id and no event type: call events are told by ``state``, messages by ``message_status``. Ids are
64-bit integers and kept as text. Durations are in ms, times in ms since 1970.

Sources: developers.dialpad.com (call events, SMS events, webhook delivery failures);
tests/vectors/*-dialpad.json. The ``call.started`` family is of the project's third seed document and
isn't sent by Dialpad; both are taken.
"""

import binascii
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import replace
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, ConfigDict

from receiver.delivery import Answer, BadSignature, Delivery, Identity, about, digest_of, key, unparseable
from receiver.reading import Unparseable, part, read_object, scalar, word
from receiver.times import first_of, from_epoch, from_text

METHODS = ("POST",)
NEEDS_BASE_URL = False
SECRET_BYTES = 32  # RFC 7518 §3.2: a key of HS256 has at least as many bytes as its hash
HEADER = {"alg": "HS256", "typ": "JWT"}

STATES = {
    "calling": "call.initiated",
    "ringing": "call.ringing",
    "preanswer": "call.ringing",
    "queued": "call.queued",
    "connected": "call.answered",
    "missed": "call.missed",
    "hold": "call.hold",
    "voicemail_uploaded": "voicemail.received",
    "recording": "recording.completed",
    "admin_recording": "recording.completed",
    "transcription": "transcript.final",
    "call_transcription": "transcript.final",
}
SEED_TYPES = {
    "call.started": "call.initiated",
    "call.ring": "call.ringing",
    "call.ended": "call.completed",
    "call.recording.completed": "recording.completed",
    "sms.received": "message.received",
}
OUTBOUND = {"pending": "message.queued", "success": "message.delivered", "failed": "message.failed"}


class Options(BaseModel):
    """*insecure*: take plain JSON without any proof of who sent it. Excludes secrets."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    insecure: bool = False


def check_secret(_secret: bytes, _options: Options) -> None:
    """Take any text."""


def verify(delivery: Delivery, secret: bytes, _options: Options, _now: float) -> None:
    """Raise BadSignature unless the body is a JWT signed with *secret* by HS256, and by nothing else."""
    signed, _, signature = delivery.body.strip(b" \t\r\n").rpartition(b".")
    header, _, payload = signed.partition(b".")
    if not header or b"." in payload:
        raise BadSignature("dialpad: expected a JWT of three segments")
    expected = hmac.digest(secret, signed, "sha256")
    if not hmac.compare_digest(_decoded(signature, "signature"), expected):
        raise BadSignature("dialpad: the JWT's signature does not match")
    _check_header(header)


@lru_cache(maxsize=16)
def _check_header(header: bytes) -> None:
    """Raise BadSignature for a header under which HS256 proves nothing. It is signed, and each time the same."""
    try:
        claims = json.loads(_decoded(header, "header"))
    except (ValueError, RecursionError) as error:
        raise BadSignature("dialpad: the JWT's header is not JSON") from error
    if not isinstance(claims, dict) or claims.get("alg") != "HS256":
        raise BadSignature("dialpad: expected a JWT with alg HS256")
    if "crit" in claims or "b64" in claims:
        raise BadSignature("dialpad: the JWT asks for extensions that are not supported")


def sign(secret: bytes, payload: bytes) -> bytes:
    """Return the JWT of *payload*, a whole request body."""
    header = json.dumps(HEADER, separators=(",", ":")).encode()
    signed = _encoded(header) + b"." + _encoded(payload)
    return signed + b"." + _encoded(hmac.digest(secret, signed, "sha256"))


def identify(delivery: Delivery, _options: Options) -> list[Identity]:
    """Name the one event of an authentic delivery."""
    # White space around it isn't signed: with some more of it, it's the same event.
    body = delivery.body.strip(b" \t\r\n")
    try:
        # JSON text can't hold two points outside of strings, and starts with none of base64url's letters.
        is_jwt = body.count(b".") == 2 and body.startswith(b"ey")
        fields, payload = read_object(_segment(body) if is_jwt else body)
    except Unparseable as error:
        return [unparseable(replace(delivery, body=body), f"dialpad: {error}")]
    event_type, provider_type, event_id, subject = _classify(fields)
    return [
        Identity(
            event_id or digest_of(body),
            event_type,
            provider_type,
            subject,
            first_of((from_epoch(fields.get("event_timestamp")), from_text(fields.get("timestamp")))),
            payload,
        )
    ]


def answer(_delivery: Delivery, _options: Options) -> Answer:
    """Return an empty body: Dialpad reads the status alone."""
    return Answer()


def _classify(fields: dict[str, Any]) -> tuple[str, str, str | None, str | None]:
    """Return event_type, provider_type, event_id and subject; event_id None where nothing names the event."""
    time = fields.get("event_timestamp")
    time = scalar(int(time) if isinstance(time, float) and time.is_integer() else time)
    state, call = word(fields.get("state")), scalar(fields.get("call_id"))
    if state:
        event_type = _call_type(state, answered=bool(fields.get("date_connected")))
        return event_type, state, key(call, state, time) if call and time else None, about("call", call)
    status, message = word(fields.get("message_status")), scalar(fields.get("id"))
    if status or ("from_number" in fields and "to_number" in fields):
        direction = word(fields.get("direction"))
        inbound = direction == "inbound"
        event_type = "message.received" if inbound else OUTBOUND.get(status, "message.updated")
        provider_type = ":".join(filter(None, ("sms", direction, status)))
        return (
            event_type,
            provider_type,
            key(message, status, time) if message and time else None,
            about("message", message),
        )
    return _seed(fields)


def _call_type(state: str, *, answered: bool) -> str:
    if state == "hangup":  # says nothing of how: busy and failed can't be told
        return "call.completed" if answered else "call.no_answer"
    if state.startswith("recap_"):
        return "call.report"
    return STATES.get(state, "call.updated")


def _seed(fields: dict[str, Any]) -> tuple[str, str, str | None, str | None]:
    provider_type = word(fields.get("event_type")) or word(fields.get("type"))
    event_type = SEED_TYPES.get(provider_type, "other")
    call = scalar(part(fields, "call", "id"))
    if call:
        own = scalar(fields.get("event_id")) or scalar(fields.get("id")) or scalar(fields.get("uuid"))
        return event_type, provider_type, key(own) if own else key(call, provider_type), about("call", call)
    own = scalar(fields.get("event_id")) or scalar(fields.get("uuid"))
    message = scalar(fields.get("id")) if event_type == "message.received" else None
    event_id = key(own) if own else (key(message, provider_type) if message else None)
    return event_type, provider_type, event_id, about("message", message)


def _segment(token: bytes) -> bytes:
    try:
        return _decoded(token.split(b".")[1], "payload")
    except BadSignature as error:
        raise Unparseable("expected the JWT's payload in base64url") from error


def _encoded(raw: bytes) -> bytes:
    return urlsafe_b64encode(raw).rstrip(b"=")


def _decoded(segment: bytes, name: str) -> bytes:
    """Return a segment's bytes. Raises BadSignature for padding, and for any but the one way to write them."""
    try:
        raw = urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))
    except binascii.Error as error:
        raise BadSignature(f"dialpad: the JWT's {name} is not base64url") from error
    if _encoded(raw) != segment:
        raise BadSignature(f"dialpad: the JWT's {name} is not base64url as the standard writes it")
    return raw
