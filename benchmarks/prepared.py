"""Requests made before they are sent, so that sending one costs the generator nothing: bytes from the socket's view."""

import hmac
import json
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

BASE_URL = "https://hooks.example.com"
TOKEN = "0123456789abcdef0123456789abcdef"  # noqa: S105 - of receivers started here
VAPI_SECRET = "a-secret-of-vapi-0123456789"  # noqa: S105 - as TOKEN
SMALL, LARGE = 1024, 600 * 1024  # bytes of a body
PATH = "/webhooks/twilio"
ENVIRON = {"BASE_URL": BASE_URL, "TWILIO_AUTH_TOKEN": TOKEN, "VAPI_WEBHOOK_SECRET": VAPI_SECRET}

# A status callback as Twilio sends it; the pad stands for the longer ones' caller names, cities and passports.
FIELDS = {
    "AccountSid": "AC00000000000000000000000000000001",
    "ApiVersion": "2010-04-01",
    "CallSid": "CA" + "#" * 32,
    "CallStatus": "ringing",
    "CallbackSource": "call-progress-events",
    "Called": "+15005550006",
    "Caller": "+15005550001",
    "Direction": "outbound-api",
    "From": "+15005550001",
    "SequenceNumber": "1",
    "StirVerstat": "TN-Validation-Passed-A",
    "Timestamp": "Sat, 21 Nov 2026 12:00:00 +0000",
    "To": "+15005550006",
}
NUMBER = "#" * 32  # where the event's number goes


def small(first: int, count: int, size: int = SMALL) -> Iterator[bytes]:
    """Yield so many of Twilio's callbacks with a body of *size* bytes, signed, each of another call; all of one length.

    *first*: number of the first call.
    """
    form = urlencode(FIELDS, safe="#")
    pad = "x" * (size - len(form) - len("&StirPassportToken="))
    body = f"{form}&StirPassportToken={pad}"
    signed = "".join(name + value for name, value in sorted({**FIELDS, "StirPassportToken": pad}.items()))
    before, after = (BASE_URL + PATH + signed).encode().split(NUMBER.encode())
    head, tail = body.encode().split(NUMBER.encode())
    for call in range(first, first + count):
        number = b"%032x" % call
        signature = b64encode(hmac.digest(TOKEN.encode(), before + number + after, "sha1"))
        yield (
            b"POST %s HTTP/1.1\r\nHost: hooks.example.com\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            b"Content-Length: %d\r\nX-Twilio-Signature: %s\r\n\r\n%s%s%s"
        ) % (PATH.encode(), size, signature, head, number, tail)


def large(number: int) -> bytes:
    """Return Vapi's report at the end of one call, with a transcript that makes the body LARGE bytes."""
    said = "AI: How are you today? User: I am fine, thank you. "
    message = {"type": "end-of-call-report", "call": {"id": f"{number:036}"}, "endedReason": "customer-ended-call"}
    empty = len(json.dumps({"message": message | {"transcript": ""}}))
    transcript = (said * (LARGE // len(said) + 1))[: LARGE - empty]
    body = json.dumps({"message": message | {"transcript": transcript}}).encode()
    head = (
        "POST /webhooks/vapi HTTP/1.1\r\nHost: hooks.example.com\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nX-Vapi-Secret: {VAPI_SECRET}\r\n\r\n"
    )
    return head.encode() + body


class Prepared:
    """A file of small requests of one length each, one behind the other."""

    def __init__(self, path: Path, count: int, *, first: int = 0, size: int = SMALL) -> None:
        self.path, self.count = path, count
        with path.open("wb") as file:
            file.writelines(small(first, count, size))
        self.size = path.stat().st_size // count

    def read(self, first: int, count: int) -> list[bytes]:
        """Return some of them."""
        with self.path.open("rb") as file:
            file.seek(first * self.size)
            return [file.read(self.size) for _ in range(count)]
