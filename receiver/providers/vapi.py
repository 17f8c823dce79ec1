"""Vapi: voice AI calls, one JSON envelope ``{"message": {"type": ..., "call": {...}, ...}}``.

Authentication is what the server URL's credential says: a shared secret as ``Authorization: Bearer``, as
``X-Vapi-Secret`` (the legacy inline secret) or in a header of one's choice; or an HMAC over a configurable
text, by default hex SHA-256 of ``{timestamp}.{body}`` in ``x-signature`` with ``x-timestamp``, whose unit
isn't documented (seconds and milliseconds are taken).

Sources: VapiAI/docs (server-authentication, openapi.json); tests/vectors/signatures-voice-ai.json.
"""

import binascii
import hmac
import json
import re
from base64 import b64decode, b64encode
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from receiver.delivery import Answer, BadSignature, Delivery
from receiver.providers.standard_webhooks import check_timestamp
from receiver.providers.vapi_events import identify
from receiver.reading import Unparseable, part, read_object

__all__ = [
    "METHODS",
    "NEEDS_BASE_URL",
    "SECRET_BYTES",
    "Options",
    "answer",
    "check_secret",
    "credentials",
    "identify",
    "signature",
    "verify",
]

METHODS = ("POST",)
NEEDS_BASE_URL = False
SECRET_BYTES = 16
SECRET_HEADERS = ("x-vapi-secret", "x-webhook-secret")


class Hmac(BaseModel):
    """A custom HMAC credential, in the words of Vapi's dashboard."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    algorithm: Literal["sha256", "sha512", "sha1"] = "sha256"
    signature_header: str = "x-signature"
    signature_prefix: str = ""
    signature_encoding: Literal["hex", "base64"] = "hex"
    timestamp_header: str = "x-timestamp"
    include_timestamp: bool = True
    message_id_header: str = "svix-id"
    payload_format: str = "{timestamp}.{body}"
    secret_is_base64: bool = False
    tolerance: float = Field(default=300, gt=0, description="seconds, both ways")

    @model_validator(mode="after")
    def covers_what_counts(self) -> Self:
        """Refuse a format under which anyone could change the body, or send an old delivery again."""
        for needed in ["{body}", *(["{timestamp}"] if self.include_timestamp else [])]:
            if needed not in self.payload_format:
                raise ValueError(f"payload_format: expected {needed} in it, else it is not covered by the signature")
        return self


DEFAULT_HMAC = Hmac()


class Options(BaseModel):
    """How one server URL is authenticated, and what an assistant-request is answered with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hmac: Hmac | None = None
    header_name: str = ""
    bearer_prefix: bool = True
    assistant_id: str = ""


def check_secret(secret: bytes, options: Options) -> None:
    """Raise ValueError for a secret that isn't base64 where it is said to be, or is that of no bytes."""
    if options.hmac and options.hmac.secret_is_base64:
        try:
            key = b64decode(secret.removeprefix(b"whsec_"), validate=True)
        except binascii.Error:
            raise ValueError("is not base64, though secret_is_base64 = true") from None
        if not key:
            raise ValueError("is whsec_ with nothing behind it: no key, so anyone could sign; set the whole secret")


def verify(delivery: Delivery, secret: bytes, options: Options, now: float) -> None:
    """Raise BadSignature unless the request carries *secret*, or an HMAC made with it. *now* in unix seconds.

    With options.hmac only that HMAC counts; without, Vapi's default HMAC where it is sent, else the secret.
    """
    if options.hmac:
        _verify_hmac(delivery, secret, options.hmac, now)
    elif not options.header_name and DEFAULT_HMAC.signature_header in delivery.headers:
        _verify_hmac(delivery, secret, DEFAULT_HMAC, now)
    else:
        _verify_secret(delivery, secret, options)


def credentials(delivery: Delivery, secret: bytes, options: Options, now: float | str) -> dict[str, str]:
    """Return the headers that prove *delivery* to a source with these options: signing, beside verifying.

    *now*: unix seconds, or the text that is to stand for them.
    """
    if not options.hmac:
        header = options.header_name or SECRET_HEADERS[0]
        bearer = options.bearer_prefix and header.lower() == "authorization"
        return {header.lower(): ("Bearer " if bearer else "") + secret.decode("latin-1")}
    timestamp = now if isinstance(now, str) else str(int(now))
    return {
        options.hmac.timestamp_header.lower(): timestamp,
        options.hmac.signature_header.lower(): signature(delivery, secret, options.hmac, timestamp),
    }


def answer(delivery: Delivery, options: Options) -> Answer:
    """Return the configured assistant where one is asked for; else an empty object, which says nothing."""
    if options.assistant_id:
        try:
            fields, _ = read_object(delivery.body)
        except Unparseable:
            fields = {}
        if part(fields, "message", "type") == "assistant-request":
            return Answer(json.dumps({"assistantId": options.assistant_id}).encode(), "application/json")
    return Answer(b"{}", "application/json")


def _verify_secret(delivery: Delivery, secret: bytes, options: Options) -> None:
    bearer = b"Bearer " + secret
    if options.header_name:
        name = options.header_name.lower()
        proofs = [(name, bearer if options.bearer_prefix else secret)]
        if name != "authorization":  # in a header of one's own the bare secret counts, too
            proofs.append((name, secret))
    else:
        proofs = [("authorization", bearer), *((name, secret) for name in SECRET_HEADERS)]
    matches = [
        hmac.compare_digest(delivery.headers.get(name, "").encode("latin-1", "replace"), expected)
        for name, expected in proofs
    ]
    if not any(matches):
        raise BadSignature(f"vapi: none of {', '.join(dict(proofs))} carries the secret")


def _verify_hmac(delivery: Delivery, secret: bytes, scheme: Hmac, now: float) -> None:
    given = delivery.headers.get(scheme.signature_header.lower())
    if not given:
        raise BadSignature(f"vapi: no {scheme.signature_header} header")
    timestamp = delivery.headers.get(scheme.timestamp_header.lower(), "")
    if scheme.include_timestamp:
        check_timestamp(timestamp, now, scheme.tolerance)
    expected = signature(delivery, secret, scheme, timestamp)
    if not hmac.compare_digest(expected.encode(), given.encode("latin-1", "replace")):
        raise BadSignature(f"vapi: {scheme.signature_header} does not match")


def signature(delivery: Delivery, secret: bytes, scheme: Hmac, timestamp: str) -> str:
    """Return the value of the signature's header for these bytes and that time."""
    if scheme.payload_format == DEFAULT_HMAC.payload_format:
        text = b"%b.%b" % (timestamp.encode(), delivery.body)
    else:
        text = _signed(delivery, scheme, timestamp)
    raw_key = b64decode(secret.removeprefix(b"whsec_")) if scheme.secret_is_base64 else secret
    digest = hmac.digest(raw_key, text, scheme.algorithm)
    encoded = digest.hex() if scheme.signature_encoding == "hex" else b64encode(digest).decode()
    return scheme.signature_prefix + encoded


def _signed(delivery: Delivery, scheme: Hmac, timestamp: str) -> bytes:
    message_id = delivery.headers.get(scheme.message_id_header.lower(), "")
    values = {
        "timestamp": timestamp.encode(),
        "body": delivery.body,
        "method": delivery.method.encode(),
        "url": delivery.url.encode("latin-1", "replace"),
        "svix-id": message_id.encode("latin-1", "replace"),
    }
    # One pass, so that a body that holds "{url}" stays what it is.
    pieces = re.split(r"\{(timestamp|body|method|url|svix-id)\}", scheme.payload_format)
    return b"".join(values[piece] if i % 2 else piece.encode() for i, piece in enumerate(pieces))
