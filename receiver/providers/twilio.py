"""Twilio: voice, messaging, recordings, answering machine detection, Event Streams.

Facts (twilio.com/docs/usage/security, webhooks-connection-overrides; tests/vectors/*-twilio.json):

- ``X-Twilio-Signature`` is base64 HMAC-SHA1, keyed by the auth token, of the public URL followed by
  each distinct form name in code point order, and for each its distinct values in order, with no
  separators. Blank values count. A GET signs its URL alone.
- Any other body is covered only by ``bodySHA256`` in the URL. A URL-only signature on an uncovered
  body proves nothing of the body: such a request is refused.
- An account may have its webhooks signed with a shared key by HMAC-SHA256 instead
  (twilio.com/docs/usage/webhooks/webhook-shared-keys; twilio-python 9.13.0, request_validator.py). A source
  says which it expects: the header that names the algorithm isn't signed, and isn't believed.
- HTTPS voice drops the port before signing, HTTP voice and messaging keep it: both are tried.
- No event id, no time: the key is made of signed fields. ``I-Twilio-Idempotency-Token`` isn't signed.
- What a TwiML or messaging webhook answers in plain text is spoken to the caller or sent to the
  texter, so every answer is TwiML.
"""

import hmac
from base64 import b64encode
from functools import lru_cache
from urllib.parse import urlsplit

from receiver.delivery import Answer, BadSignature, Delivery
from receiver.providers import twiml
from receiver.providers.twilio_events import identify
from receiver.providers.twilio_form import fields_of, query_bytes, read_form, signed_fields
from receiver.providers.twilio_numbers import Options

__all__ = [
    "METHODS",
    "NEEDS_BASE_URL",
    "SECRET_BYTES",
    "Options",
    "answer",
    "check_secret",
    "identify",
    "sign",
    "verify",
]

SIGNATURE = "x-twilio-signature"
METHODS = ("POST", "GET")
NEEDS_BASE_URL = True
SECRET_BYTES = 32
PARAMETERS = ("From", "To", "CallSid")  # of every stream
EMPTY = Answer(twiml.NOTHING, "text/xml")


def check_secret(_secret: bytes, _options: Options) -> None:
    """Take any text."""


def verify(delivery: Delivery, secret: bytes, options: Options, _now: float) -> None:
    """Raise BadSignature unless *secret*, the auth token or a shared key, signed the URL and the whole body."""
    if not delivery.headers.get(SIGNATURE):
        raise BadSignature(f"twilio: no {SIGNATURE} header")
    if not is_signed(delivery, signed_fields(delivery), secret, options):
        raise BadSignature(f"twilio: {SIGNATURE} does not match the URL and body; is BASE_URL what Twilio calls?")


def is_signed(delivery: Delivery, fields: bytes, secret: bytes, options: Options) -> bool:
    """Tell whether the signature is that of the URL followed by *fields*; that alone says nothing of a body."""
    # As bytes: compare_digest raises TypeError on a str that isn't ASCII.
    signature = delivery.headers.get(SIGNATURE, "").encode("latin-1", "replace")
    data = delivery.target.encode("latin-1", "replace") + fields
    return any(
        hmac.compare_digest(sign(secret, origin + data, options.algorithm), signature)
        for origin in _origins(delivery.base_url)
    )


def sign(secret: bytes, data: bytes, algorithm: str = "sha1") -> bytes:
    """Return the signature of a URL followed by its form's canonical fields."""
    return b64encode(hmac.digest(secret, data, algorithm))


def answer(delivery: Delivery, options: Options) -> Answer:
    """Return TwiML: the stream configured for the number of the call that is asked about, else nothing to do.

    The same delivery gets the same answer, so a retry is answered like the first.
    """
    if options.answer is None and not options.numbers:
        return EMPTY
    fields = fields_of(delivery)
    said = options.said(fields.get)
    if said is None:
        return EMPTY
    parameters = [(name, fields.get(name)) for name in PARAMETERS]
    query = read_form(query_bytes(delivery))
    for name in said.parameters:
        told = query if name in query.values else fields
        if name in told.values and name not in PARAMETERS:
            parameters.append((name, told.get(name)))
    return Answer(twiml.stream(said, _host(delivery.base_url), parameters), "text/xml")


@lru_cache(maxsize=64)
def _origins(base_url: str) -> tuple[bytes, ...]:
    url = urlsplit(base_url)
    bare = f"{url.scheme}://{url.netloc.partition(':')[0]}"
    with_port = f"{bare}:{url.port or (443 if url.scheme == 'https' else 80)}"
    origins = (with_port, bare) if url.port else (bare, with_port)
    return tuple(f"{origin}{url.path}".encode() for origin in origins)


def _host(base_url: str) -> str:
    return base_url.partition("://")[2]
