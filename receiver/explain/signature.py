"""A proof that is missing, late, in another header, or the right one written otherwise."""

import binascii
import contextlib
import hmac
import re
from base64 import b64decode
from collections.abc import Iterator, Sequence
from urllib.parse import unquote

from receiver.delivery import BadSignature, Delivery
from receiver.explain.case import Case, Guess
from receiver.providers import agent, standard_webhooks, twilio, vapi
from receiver.providers.twilio_form import signed_fields
from receiver.settings import Source
from sql.log import printable

SIZES = {16: "md5", 20: "sha1", 32: "sha256", 48: "sha384", 64: "sha512"}
CUT_MIN = 8  # characters of a signature by which it is known as the beginning of the right one
PREFIX = re.compile(r"^(?:sha-?\d+|v\d+a?|hmac(?:-sha\d+)?|signature|bearer|token|basic)[=, ]\s*", re.IGNORECASE)
SENDERS = {"x-twilio-signature": "Twilio", "webhook-signature": "Standard Webhooks", "svix-signature": "Svix"}


def missing(delivery: Delivery, source: Source) -> list[str]:
    """Return what is certain without a secret: no proof is there at all."""
    if source.provider == "dialpad":
        body = delivery.body.strip()
        if body.startswith((b"{", b"[")):
            return ["the body is plain JSON, which nobody signed: set the secret on the webhook at Dialpad"]
        return _jwt_faults(body)
    name = header_of(source, delivery)
    if delivery.headers.get(name):
        return []
    if source.provider == "vapi" and not source.options.hmac:
        return [f"no header that carries a secret was kept or sent; {name} is expected (quarantine keeps none)"]
    others = [words for other, words in SENDERS.items() if other in delivery.headers and other != name]
    told = f"; it carries the one of {others[0]}: is this the source for it?" if others else ""
    return [f"no {name} header{told}"]


def clock(delivery: Delivery, source: Source, now: float) -> tuple[float, str]:
    """Return the time to verify at, and what is wrong with the signed time; "" where nothing is, or none is signed."""
    name, tolerance = _window(delivery, source)
    if not name:
        return now, ""
    text = delivery.headers.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) <= 16):
        return now, f"{name} is missing or not a number of seconds: expected digits only"
    signed = int(text) / 1000 if len(text) >= 12 else float(text)
    if abs(now - signed) <= tolerance:
        return now, ""
    side = "before" if signed < now else "after"
    words = f"{name} is {abs(now - signed):.0f} s {side} it came, and the window is {tolerance:.0f} s"
    return signed, f"{words}: a clock is wrong, or it was held up, or sent again"


def signatures(case: Case, _sources: Sequence[Source]) -> Iterator[Guess]:
    """Yield the case with its proof as the provider would have written it."""
    name = header_of(case.source, case.delivery)
    if not name or (case.source.provider == "vapi" and not case.source.options.hmac and name == vapi.SECRET_HEADERS[0]):
        yield from _secret_headers(case)
        return
    right = _right(case)
    for header, value in case.delivery.headers.items():
        if header == name or (name not in case.delivery.headers and "signature" in header):
            place = "" if header == name else f"the signature is in {printable(header)}, and {name} is expected; "
            for words, text in _spellings(value):
                for how, written in _written(text, right):
                    told = "; ".join(filter(None, (place.removesuffix("; "), words, how))) or "whitespace around it"
                    yield f"signature: {told}", _with(case, name, written)
    yield from _otherwise_made(case, name, right)


def header_of(source: Source, delivery: Delivery) -> str:
    """Return the name of the header that proof is expected in; "" for Dialpad, whose body holds it."""
    if source.provider == "twilio":
        return twilio.SIGNATURE
    if source.provider == "agent":
        if standard_webhooks.sent(delivery):
            return "webhook-signature" if "webhook-signature" in delivery.headers else "svix-signature"
        return agent.SIGNATURE
    if source.provider == "vapi":
        if source.options.hmac:
            return str(source.options.hmac.signature_header.lower())
        if source.options.header_name:
            return str(source.options.header_name.lower())
        signed = vapi.Hmac().signature_header
        return signed if signed in delivery.headers else vapi.SECRET_HEADERS[0]
    return ""


def _jwt_faults(body: bytes) -> list[str]:
    parts = body.split(b".")
    if len(parts) != 3:
        return [] if len(parts) > 3 or len(body) > 200 else ["the body is neither a JWT of three segments nor JSON"]
    if len(parts[2]) < 43:
        return [f"the JWT's signature is cut off: {len(parts[2])} of 43 characters"]
    try:
        header = b64decode(parts[0] + b"=" * (-len(parts[0]) % 4), altchars=b"-_")
    except binascii.Error:
        return ["the JWT's header is not base64url"]
    found = re.search(rb'"alg"\s*:\s*"(\w{1,10})"', header)
    if found and found[1] != b"HS256":
        return [f"the JWT's alg is {found[1].decode()}, and only HS256 counts"]
    return []


def _window(delivery: Delivery, source: Source) -> tuple[str, float]:
    """Return the header with the signed time, and its tolerance in seconds; "" where no time is signed."""
    if source.provider == "agent" and standard_webhooks.sent(delivery):
        prefix = header_of(source, delivery).partition("-")[0]
        return f"{prefix}-timestamp", standard_webhooks.TOLERANCE
    if source.provider == "vapi":
        scheme = _scheme(source, delivery)
        if scheme and scheme.include_timestamp:
            return scheme.timestamp_header.lower(), scheme.tolerance
    return "", 0.0


def _scheme(source: Source, delivery: Delivery) -> vapi.Hmac | None:
    options: vapi.Options = source.options
    if options.hmac or options.header_name:
        return options.hmac
    return vapi.Hmac() if vapi.Hmac().signature_header in delivery.headers else None


def _right(case: Case) -> str:
    """Return the signature that would be right; never to be shown. "" where a header is missing that it needs."""
    delivery, secret = case.delivery, case.secret
    try:
        if case.source.provider == "twilio":
            data = delivery.url.encode("latin-1", "replace") + signed_fields(delivery)
            return twilio.sign(secret, data, case.source.options.algorithm).decode()
        if case.source.provider == "agent" and standard_webhooks.sent(delivery):
            prefix = header_of(case.source, delivery).partition("-")[0]
            identifier, time = (delivery.headers.get(f"{prefix}-{name}", "") for name in ("id", "timestamp"))
            return standard_webhooks.sign(secret, identifier, time, delivery.body)
        if case.source.provider == "agent":
            return agent.sign(secret, delivery.body)
        if scheme := _scheme(case.source, delivery):
            return vapi.signature(delivery, secret, scheme, delivery.headers.get(scheme.timestamp_header.lower(), ""))
    except (BadSignature, ValueError):
        pass
    return ""


def _spellings(value: str) -> Iterator[tuple[str, str]]:
    """Yield a header's value, and each other text that remains of it without what it may be wrapped in."""
    plain = value.strip().strip("\"'")
    parts = [part for part in re.split(r"[,\s]+", plain) if part][:10]
    several = "one of several, or sent twice"
    spelled = [
        ("", value),
        ("in quotes or blanks", plain),
        *((several, text) for part in parts if len(parts) > 1 for text in (part, PREFIX.sub("", part))),
        ("with a prefix", PREFIX.sub("", plain)),
        ("percent-encoded", unquote(plain)),
        ("its + became blanks", plain.replace(" ", "+")),
    ]
    seen: dict[str, str] = {}
    for words, text in spelled:
        seen.setdefault(text, words)
    yield from ((words, text) for text, words in seen.items())


def _written(text: str, right: str) -> Iterator[tuple[str, str]]:
    """Yield a signature's ways to be written in the form of the right one, with what was other about it."""
    prefix, _, body = right.rpartition(",") if right.startswith("v1,") else ("", "", right)
    yield "", text
    if prefix:
        yield f"without {prefix}, before it", f"{prefix},{text}"
    if CUT_MIN <= len(text) < len(right) and any(form.startswith(text) for form in (right, body)):
        yield f"cut off after {len(text)} of {len(right)} characters", right
    if right and len(text) > len(right) and text.startswith(right) and "," not in text:
        yield f"{len(text) - len(right)} characters too many behind it", right
    ours = _raw(body)
    for how, raw in _decoded(text):
        if raw == ours and ours:
            yield how, right


def _decoded(text: str) -> Iterator[tuple[str, bytes]]:
    """Yield the bytes that a text may be written for."""
    with contextlib.suppress(ValueError):
        yield "in hex, or in its upper case", bytes.fromhex(text)
    for how, altered in (("in base64", text), ("in base64url", text.replace("-", "+").replace("_", "/"))):
        with contextlib.suppress(ValueError):
            yield f"{how}, or without its padding", b64decode(altered + "=" * (-len(altered) % 4), validate=True)


def _raw(text: str) -> bytes:
    """Return a right signature's bytes."""
    if re.fullmatch(r"(?:[0-9a-f]{2})+", text):
        return bytes.fromhex(text)
    try:
        return b64decode(text, validate=True)
    except ValueError:
        return b""


def _otherwise_made(case: Case, name: str, right: str) -> Iterator[Guess]:
    """Yield the case as if rightly signed, where the secret made the signature by another rule."""
    value = case.delivery.headers.get(name, "")
    given = {raw for _, text in _spellings(value) for _, raw in _decoded(text) if len(raw) in SIZES}
    body, headers = case.delivery.body, case.delivery.headers
    times = [value for header, value in headers.items() if header.endswith("timestamp")]
    ids = [value for header, value in headers.items() if header.endswith("-id")]
    contents = {
        "the body": body,
        "the URL": case.delivery.url.encode(),
        "URL and body": case.delivery.url.encode() + body,
    }
    for time in times:
        contents["timestamp.body"] = f"{time}.".encode() + body
        for identifier in ids:
            contents["id.timestamp.body"] = f"{identifier}.{time}.".encode() + body
    for raw in given if right else ():
        algorithm = SIZES[len(raw)]
        for what, content in contents.items():
            if hmac.compare_digest(hmac.digest(case.secret, content, algorithm), raw):
                yield (
                    f"signature: it is HMAC-{algorithm.upper()} of {what}, another rule than this source's",
                    _with(case, name, right),
                )


def _secret_headers(case: Case) -> Iterator[Guess]:
    """Yield the case with its secret where it is expected, if another header or spelling has it; Vapi's way."""
    if case.source.provider != "vapi":
        return
    expected = case.source.options.header_name.lower() or vapi.SECRET_HEADERS[0]
    secret = case.secret.decode("latin-1")
    right = vapi.credentials(case.delivery, case.secret, case.source.options, case.now)
    for header, value in case.delivery.headers.items():
        texts = {text for _, text in _spellings(value)} | {PREFIX.sub("", value.strip())}
        if secret in texts:
            spelled = "" if value in right.values() else ", with something around it"
            words = f"the secret is in {printable(header)}{spelled}; expected in {expected}"
            yield words, case.with_headers(right)


def _with(case: Case, name: str, value: str) -> Case:
    return case.with_headers({name: value})
