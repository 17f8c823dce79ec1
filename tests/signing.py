"""Deliveries signed as their providers do, by other code than the receiver's: Twilio's SDK, PyJWT, hmac."""

import hmac
import json
from base64 import b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from typing import Any
from urllib.parse import urlencode

import jwt
from twilio.request_validator import RequestValidator

from tests.http_receiver import FORM, JSON, Receiver, Reply
from tests.receiver_fixtures import AGENT_SECRET, BASE_URL, DIALPAD_SECRET, TOKEN, VAPI_SECRET

Pairs = Iterable[tuple[str, str]]


class Form(dict[str, list[str]]):
    """A form as Twilio's SDK wants it where names repeat."""

    def __init__(self, pairs: Pairs) -> None:
        super().__init__()
        for name, value in pairs:
            self.setdefault(name, []).append(value)

    def getlist(self, name: str) -> list[str]:
        return self[name]


@dataclass(frozen=True)
class Signed:
    """A delivery, signed."""

    target: str
    body: bytes = b""
    headers: dict[str, Any] = field(default_factory=dict)
    method: str = "POST"

    def to(self, receiver: Receiver, **headers: Any) -> Reply:
        """Send it, with *headers* besides or in place of its own (a None removes one)."""
        changed = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {name: value for name, value in (self.headers | changed).items() if value is not None}
        return receiver.send(self.method, self.target, sent, self.body)


def twilio_signature(url: str, pairs: Pairs = (), token: str = TOKEN) -> str:
    return str(RequestValidator(token).compute_signature(url, Form(pairs)))


def twilio(pairs: Pairs, target: str = "/webhooks/twilio", *, url: str = "") -> Signed:
    """Return a form POST. *url*: what was signed, if not the target at BASE_URL."""
    pairs = list(pairs)
    signature = twilio_signature(url or BASE_URL + target, pairs)
    return Signed(target, urlencode(pairs).encode(), FORM | {"x-twilio-signature": signature})


def twilio_bytes(body: bytes, signed: bytes, target: str = "/webhooks/twilio", **headers: str) -> Signed:
    """Return a form POST of any bytes; *signed*: what Twilio would append to the URL for it."""
    digest = hmac.new(TOKEN.encode(), (BASE_URL + target).encode() + signed, sha1).digest()
    return Signed(target, body, FORM | headers | {"x-twilio-signature": b64encode(digest).decode()})


def twilio_json(body: bytes) -> Signed:
    target = f"/webhooks/twilio?bodySHA256={sha256(body).hexdigest()}"
    return Signed(target, body, JSON | {"x-twilio-signature": twilio_signature(BASE_URL + target)})


def agent_signature(body: bytes, secret: str = AGENT_SECRET) -> str:
    return hmac.new(secret.encode(), body, sha256).hexdigest()


def agent(body: bytes) -> Signed:
    return Signed("/webhooks/agent", body, JSON | {"x-webhook-signature": agent_signature(body)})


def vapi(body: bytes) -> Signed:
    return Signed("/webhooks/vapi", body, JSON | {"x-vapi-secret": VAPI_SECRET})


def dialpad(payload: bytes, header: dict[str, Any] | None = None) -> Signed:
    """Return a JWT of any payload bytes, which PyJWT signs as JWS."""
    token = jwt.PyJWS().encode(payload, DIALPAD_SECRET, algorithm="HS256", headers=header)
    return Signed("/webhooks/dialpad", token.encode(), {"content-type": "application/jwt"})


# A sender of any JSON for each provider.
JSON_SENDERS: dict[str, Callable[[bytes], Signed]] = {
    "agent": agent,
    "vapi": vapi,
    "dialpad": dialpad,
    "twilio": twilio_json,
}


def reminder(number: int | str, event_type: str = "call_completed", **fields: Any) -> Signed:
    """Return a valid delivery of the agent, another event for another number."""
    return agent(json.dumps({"reminder_id": f"rem_{number}", "event_type": event_type, **fields}).encode())
