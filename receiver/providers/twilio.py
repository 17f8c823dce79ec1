"""Twilio: voice, messaging, recordings, answering machine detection, Event Streams.

Facts (twilio.com/docs/usage/security, webhooks-connection-overrides; tests/vectors/*-twilio.json):

- ``X-Twilio-Signature`` is base64 HMAC-SHA1, keyed by the auth token, of the public URL followed by
  each distinct form name in code point order, and for each its distinct values in order, with no
  separators. Blank values count. A GET signs its URL alone.
- Any other body is covered only by ``bodySHA256`` in the URL. A URL-only signature on an uncovered
  body proves nothing of the body: such a request is refused.
- HTTPS voice drops the port before signing, HTTP voice and messaging keep it: both are tried.
- No event id, no time: the key is made of signed fields. ``I-Twilio-Idempotency-Token`` isn't signed.
- What a TwiML or messaging webhook answers in plain text is spoken to the caller or sent to the
  texter, so every answer is TwiML.
"""

import hmac
import re
from base64 import b64encode
from functools import lru_cache
from urllib.parse import urlsplit

from twilio.twiml.voice_response import Connect, VoiceResponse

from receiver.delivery import Answer, BadSignature, Delivery
from receiver.providers.twilio_events import identify
from receiver.providers.twilio_form import form_bytes, parse_form, query_bytes, signed_fields, text_of
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
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
PARAMETERS = ("From", "To", "CallSid")  # of every stream
EMPTY = Answer(b'<?xml version="1.0" encoding="UTF-8"?><Response/>', "text/xml")


def check_secret(_secret: bytes, _options: Options) -> None:
    """Take any text."""


def verify(delivery: Delivery, secret: bytes, _options: Options, _now: float) -> None:
    """Raise BadSignature unless the URL and the whole body were signed with the auth token *secret*."""
    given = delivery.headers.get(SIGNATURE)
    if not given:
        raise BadSignature(f"twilio: no {SIGNATURE} header")
    signature = given.encode("latin-1", "replace")
    data = delivery.target.encode("latin-1", "replace") + signed_fields(delivery)
    for origin in _origins(delivery.base_url):
        # As bytes: compare_digest raises TypeError on a str that isn't ASCII.
        if hmac.compare_digest(sign(secret, origin + data), signature):
            return
    raise BadSignature(f"twilio: {SIGNATURE} does not match the URL and body; is BASE_URL what Twilio calls?")


def sign(secret: bytes, data: bytes) -> bytes:
    """Return the signature of a URL followed by its form's canonical fields."""
    return b64encode(hmac.digest(secret, data, "sha1"))


def answer(delivery: Delivery, options: Options) -> Answer:
    """Return TwiML: the stream configured for the number of the call that is asked about, else nothing to do.

    The same delivery gets the same answer, so a retry is answered like the first.
    """
    if options.answer is None and not options.numbers:
        return EMPTY
    form = _first_values(form_bytes(delivery))
    number = options.number_of(lambda name: form.get(name, ""))
    said = number.answer(options.answer) if number else options.answer
    if said is None:
        return EMPTY
    response = VoiceResponse()
    if said.greeting:
        response.say(_xml(said.greeting), language=said.language or None)
    if said.pause:
        response.pause(length=said.pause)
    connect = Connect()
    stream = connect.stream(url=said.stream_url or f"wss://{_host(delivery.base_url)}{said.stream_path}")
    for name in PARAMETERS:
        stream.parameter(name=name, value=_xml(form.get(name, "")))
    told = form | _first_values(query_bytes(delivery))
    for name in said.parameters:
        if name in told and name not in PARAMETERS:
            stream.parameter(name=_xml(name), value=_xml(told[name]))
    response.append(connect)
    return Answer(str(response).encode(), "text/xml")


@lru_cache(maxsize=64)
def _origins(base_url: str) -> tuple[bytes, ...]:
    url = urlsplit(base_url)
    bare = f"{url.scheme}://{url.netloc.partition(':')[0]}"
    with_port = f"{bare}:{url.port or (443 if url.scheme == 'https' else 80)}"
    origins = (with_port, bare) if url.port else (bare, with_port)
    return tuple(f"{origin}{url.path}".encode() for origin in origins)


def _first_values(encoded: bytes) -> dict[str, str]:
    """Return a form's fields; of a repeated one the first value, as the event's tenant is read from it, too."""
    return {text_of(name): text_of(value) for name, value in reversed(parse_form(encoded))}


def _host(base_url: str) -> str:
    return base_url.partition("://")[2]


def _xml(text: str) -> str:
    """Return *text* without the characters that XML can't carry at all."""
    return NOT_XML.sub("", text)
