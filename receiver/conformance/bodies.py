"""What an authentic body may hold: C8, C32 and C36 to C40."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from secrets import randbelow
from typing import Any
from urllib.parse import urlencode

from receiver.conformance.items import Doubtful, Failed, expect, item
from receiver.conformance.trial import LATER, PLAIN, Trial
from receiver.conformance.verdicts import stored, told
from receiver.delivery import Delivery

# A JSON value each; a form's are percent-encoded.
ODD_JSON = (
    r'"\u0000"', r'"\ud800"', "NaN", "1e400", "1e131072", "9" * 5000, "[" * 500 + "]" * 500, "[" * 20_000,
    '"\\u202e\\u001b[31m\\r\\n"',
)  # fmt: skip
ODD_FORM = ("%00", "%ED%A0%80", "%ff", "%zz%", "9" * 5000, "a;b=1", "%E2%80%AE%1B%5B31m%0D%0A", "&" * 1500)
# %d: of this run; the others may be there from an earlier one.
MALFORMED_JSON = (b'{"check": "7e57%d', b'"7e57%d"', b"\xff\xfe7e57%d", b"[]", b"null", b"")
MALFORMED_FORM = (b"7e57%d", b'{"check": "7e57%d"}', b"%%&=%d", b"&&=", b"%%")
UNKNOWN = {
    "twilio": {"CallStatus": "holographic"},
    "vapi": {"type": "holographic"},
    "dialpad": {"state": "holographic"},
    "agent": {"event_type": "call_holographic"},
}
ID = {"vapi": ("message", "call", "id"), "dialpad": ("call_id",), "agent": ("reminder_id",)}


@item("C8", "odd spelling, signed as it is", "2xx, 1 event")
def odd_spelling(trial: Trial) -> str:
    """Send odd white space and repeated names: what is verified must be the bytes that came."""
    delivery = trial.signed((_changed_form if trial.form else _changed_json)(trial.body()))
    return stored(trial, delivery, trial.send(delivery))


@item("C32", "an event before the one it follows", "2xx, 2 events")
def disorder(trial: Trial) -> str:
    """Send the end of a call, and then what came before it: both are kept. What state they make is the handlers'."""
    subject, now = trial.new_subject(), datetime.now(UTC)
    last = trial.signed(trial.body(LATER, subject, now))
    first = trial.signed(trial.body(PLAIN[trial.source.provider], subject, now - timedelta(seconds=9)))
    return stored(trial, last, trial.send(last), trial.send(first), events=2)


@item("C36", "the same event with another body", "2xx, 1 event: the first is kept")
def conflict(trial: Trial) -> str:
    """Send one event twice, the second time with another field in it."""
    subject, now = trial.new_subject(), datetime.now(UTC)
    first = trial.signed(trial.body(subject=subject, at=now))
    again = trial.signed(trial.body(subject=subject, at=now, fields={"CheckNote": "another"}))
    return stored(trial, first, trial.send(first), trial.send(again))


@item("C37", "an unknown type of event", "2xx, 1 event")
def unknown_type(trial: Trial) -> str:
    """Send what the provider may come to send."""
    delivery = trial.signed(trial.body(fields=UNKNOWN[trial.source.provider]))
    return stored(trial, delivery, trial.send(delivery))


@item("C38", "signed, and not what the provider sends", "2xx, kept to be seen: it won't be sent again")
def malformed(trial: Trial) -> str:
    """Send signed bodies that can't be read."""
    bodies = MALFORMED_FORM if trial.form else MALFORMED_JSON
    new = [body % randbelow(10**12) for body in bodies if b"%d" in body]
    old = [body.replace(b"%%", b"%") for body in bodies if b"%d" not in body]
    return _never_5xx(trial, [trial.signed(body) for body in new], [trial.signed(body) for body in old])


@item("C39", "ids that are number, text, null, object or missing", "2xx")
def ids(trial: Trial) -> str:
    """Send ids of every type; a number and the same as text."""
    number = int(f"7357{datetime.now(UTC):%H%M%S%f}")
    if trial.form:
        plain = trial.body().split(b"&")
        named = [field for field in plain if not field.startswith(b"CallSid=")]
        bodies = [b"&".join([*named, *more]) for more in ([], [b"CallSid="], [b"CallSid=%d" % number], [plain[2]] * 2)]
    else:
        path = ID[trial.source.provider]
        values: list[Any] = [number, str(number), None, True, {"a": 1}, [1], "x" * 3000]
        bodies = [_with(trial.body(), path, value) for value in values]
    return _never_5xx(trial, [trial.signed(body) for body in bodies])


@item("C40", "NUL, surrogates, depth, huge numbers", "2xx, and never 5xx")
def odd_values(trial: Trial) -> str:
    """Send values that a parser, a driver or a database stumbles on."""
    return _never_5xx(trial, [trial.signed(trial.extended(raw)) for raw in (ODD_FORM if trial.form else ODD_JSON)])


def _never_5xx(trial: Trial, deliveries: list[Delivery], uncounted: Iterable[Delivery] = ()) -> str:
    """Return what came: 2xx is right, a 4xx doubtful (what can't be read is lost), anything else raises Failed."""
    replies = [trial.send(delivery) for delivery in (*deliveries, *uncounted)]
    got = told(replies)
    if not all(reply.good for reply in replies):
        expect(all(reply.good or reply.refused for reply in replies), got)
        raise Doubtful(f"{got}; few providers send again what was answered 4xx")
    lost = [delivery for delivery in deliveries if trial.count(delivery) == 0]
    if lost:
        raise Failed(f"{got}, and {len(lost)} of {len(deliveries)} made no event")
    return got


def _with(body: bytes, path: tuple[str, ...], value: Any) -> bytes:
    """Return an object with *value* at *path*, and without its event id."""
    fields = json.loads(body)
    inner = fields
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    fields.pop("event_id", None)
    return json.dumps(fields).encode()


def _changed_form(body: bytes) -> bytes:
    """Return a form whose fields are the same, spelt otherwise: blanks, lower-case hex digits, and one field twice."""
    return body.replace(b"%2B", b"%2b") + b"&Check=a+b&Check=a%20c&Blank=&" + urlencode({"Ort": "Köln"}).encode()


def _changed_json(body: bytes) -> bytes:
    """Return an object in odd white space, with one name twice."""
    fields = json.dumps(json.loads(body), indent=3)
    return b"\n " + fields.rstrip()[:-1].encode() + b',\t"check" : 1,\r\n "check":2 } \n'
