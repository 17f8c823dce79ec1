"""Another body than the one that came: what proxies, frameworks and senders do to one after it was signed."""

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import product
from typing import Any
from urllib.parse import quote_plus, unquote_to_bytes, urlencode

from receiver.explain.case import Case, Guess
from receiver.providers import twilio
from receiver.providers.twilio_form import FORM, is_form, parse_form, query_bytes
from receiver.settings import Source
from sql.log import printable

FIELDS_MAX = 60  # of a form, each tried as one that was added
CHANGED = "the body changed after signing"


def bodies(case: Case, _sources: Sequence[Source]) -> Iterator[Guess]:
    """Yield the case with each body that it could have been signed with."""
    if case.source.provider == "twilio" and case.delivery.body:
        yield from _forms(case)
    for words, body in _texts(case.delivery.body, jwt=case.source.provider == "dialpad"):
        yield f"{CHANGED}: {words}", case.with_body(body)


def uncovered(cases: Sequence[Case], _sources: Sequence[Source]) -> Iterator[str]:
    """Yield what is certain of a body though it can't be told what it was: Twilio's URL holds its digest."""
    for case in cases:
        names = [name for name, _ in parse_form(query_bytes(case.delivery))]
        if case.source.provider != "twilio" or not case.delivery.body or is_form(case.delivery):
            continue
        if twilio.is_signed(case.delivery, b"", case.secret, case.source.options):
            if b"bodySHA256" in names:
                yield f"{CHANGED}: its URL is signed and holds the digest of another body"
            else:
                yield "its URL is signed, and nothing covers its body: it is no form, and the URL has no bodySHA256"
            return


def _forms(case: Case) -> Iterator[Guess]:
    """Yield forms, and what became one or was one; only Twilio signs their fields."""
    body, form = case.delivery.body, case.with_headers({"content-type": FORM})
    if not is_form(case.delivery):
        yield "the content-type changed after signing: it was a form's", form
        try:
            fields = json.loads(body)
        except (ValueError, RecursionError):
            return
        if isinstance(fields, dict):
            yield (
                f"{CHANGED}: a form became JSON",
                form.with_body(urlencode(fields, doseq=True, errors="replace").encode()),
            )
        return
    fields = body.split(b"&")
    yield f"{CHANGED}: %2B became +", case.with_body(body.replace(b"+", b"%2B"))
    yield f"{CHANGED}: it was percent-encoded once more", case.with_body(unquote_to_bytes(body))
    yield f"{CHANGED}: charset", case.with_body(_recoded(body, "latin-1", "utf-8"))
    yield f"{CHANGED}: charset", case.with_body(_recoded(body, "utf-8", "latin-1"))
    for place, pair in enumerate(fields[:FIELDS_MAX]):
        name = printable(pair.partition(b"=")[0].decode("latin-1"))
        yield f"{CHANGED}: field {name!r} was added", case.with_body(b"&".join(fields[:place] + fields[place + 1 :]))


def _recoded(body: bytes, was: str, became: str) -> bytes:
    pairs = [tuple(part.decode(was, "replace").encode(became, "replace") for part in pair) for pair in parse_form(body)]
    return b"&".join(b"=".join(quote_plus(part).encode() for part in pair) for pair in pairs)


@lru_cache(maxsize=4)
def _texts(body: bytes, *, jwt: bool) -> tuple[tuple[str, bytes], ...]:
    """Return each other body once, with what happened to it."""
    found: dict[bytes, str] = {}
    for words, other in (*_plain(body), *(_jwts(body) if jwt else _json(body))):
        if other != body:
            found.setdefault(other, words)
    return tuple((words, other) for other, words in found.items())


def _plain(body: bytes) -> Iterator[tuple[str, bytes]]:
    yield "whitespace around it", body.strip()
    yield "whitespace around it", body.rstrip(b"\r\n")
    yield "a line end is missing at its end", body + b"\n"
    yield "a line end is missing at its end", body + b"\r\n"
    yield "line ends", body.replace(b"\r\n", b"\n")
    yield "line ends", body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    yield "a byte order mark", body.removeprefix(b"\xef\xbb\xbf")
    for was, became in (("latin-1", "utf-8"), ("utf-8", "latin-1"), ("cp1252", "utf-8"), ("utf-8", "cp1252")):
        try:
            yield "charset", body.decode(was).encode(became)
        except UnicodeError:
            continue
    yield "it was sent twice over, or cut in half", body + body


def _json(body: bytes) -> Iterator[tuple[str, bytes]]:
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        return
    blanks: dict[str, dict[str, Any]] = {
        "without blanks": {"separators": (",", ":")},
        "with blanks after , and :": {},
        "on lines indented by 2": {"indent": 2},
        "on lines indented by 4": {"indent": 4},
    }
    for (how, style), ascii_only, in_order in product(blanks.items(), (True, False), (False, True)):
        escaped = "" if body.isascii() and b"\\u" not in body else ", \\u escapes" if ascii_only else ", no \\u escapes"
        order = ", keys sorted" if in_order else ""
        words = f"whitespace of re-serialised JSON, which was signed {how}{escaped}{order}"
        text = json.dumps(value, ensure_ascii=ascii_only, sort_keys=in_order, **style)
        yield words, text.encode("utf-8", "replace")
        if not ascii_only:
            yield words, text.replace("/", "\\/").encode("utf-8", "replace")
    if isinstance(value, str):
        yield "JSON of JSON", value.encode("utf-8", "replace")


def _jwts(body: bytes) -> Iterator[tuple[str, bytes]]:
    text = body.strip()
    yield "the JWT is in quotes", text.strip(b"\"'")
    yield "the JWT has a word before it", text.rpartition(b" ")[2]
    yield "the JWT is padded", b".".join(part.rstrip(b"=") for part in text.split(b"."))
    yield "the JWT is in base64, not base64url", text.replace(b"+", b"-").replace(b"/", b"_").replace(b"=", b"")
    yield "the JWT is percent-encoded", unquote_to_bytes(text)
    yield "the JWT has line ends in it", b"".join(text.split())
    yield "the JWT is a form's field", text.rpartition(b"=")[2] if text.count(b"=") == 1 else text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return
    for one in value.values() if isinstance(value, dict) else ():
        if isinstance(one, str) and one.count(".") == 2:
            yield "the JWT is a field of JSON", one.encode("utf-8", "replace")
