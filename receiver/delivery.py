"""A delivery, what is read from it, and how both may be wrong. No I/O: bytes in, values out.

Every provider's module works on these. Verifying comes first, on raw bytes; only an authentic
delivery is parsed, and one that is authentic is never refused for what it says.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import sha256
from typing import Any

# A btree key ends at 2,704 bytes, so a provider's id can't be taken at any length.
KEY_MAX = 200
TEXT_MAX = 255
SURROGATE = re.compile("[\ud800-\udfff]")
# What jsonb can't hold, though JSON can: NUL, and halves of surrogate pairs.
NOT_JSONB = re.compile(r"\\u0000|\\ud[89a-f]", re.IGNORECASE)
FIRST_YEAR, LAST_YEAR = 1970, 2200  # as the table's CHECK has it
# As Twilio writes a time, "Fri, 20 Nov 2026 10:00:00 +0000": so it is read in a fifth of what parsedate takes.
RFC_2822 = re.compile(
    r"[A-Z][a-z]{2}, ([0-9]{2}) ([A-Z][a-z]{2}) ([12][0-9]{3}) ((?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]) \+0000"
)
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# Far below what any interpreter's stack takes: who reads the payload back has less of it left than we.
DEPTH_MAX = 256


class BadSignature(Exception):
    """Not proven to come from the provider. Says which proof failed; never the secret, signature or body."""


class Unparseable(ValueError):
    """Authentic, but not what its provider is documented to send. Says what was expected."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One HTTP request.

    base_url is the configured public one, ``https://host[:port][/prefix]``; target the raw path and
    query as on the wire. headers have lower-case names; a repeated header's values are joined by
    ", ", so that two signatures are never taken for one. verified_by: name of the secret that proved it,
    None until one has, and where none is asked for.
    """

    method: str
    base_url: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    verified_by: str | None = None
    # What its provider has read of it already, which is then read once. replace() makes an empty one.
    memory: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def proven(self, secret: str | None) -> "Delivery":
        """Return it as verified by the secret of that name; what was read of it stays read."""
        proven = Delivery(self.method, self.base_url, self.target, self.headers, self.body, secret)
        proven.memory.update(self.memory)
        return proven

    @property
    def url(self) -> str:
        """The public URL, as the provider was told it."""
        return self.base_url + self.target

    @property
    def query(self) -> str:
        """The raw query, without its question mark."""
        return self.target.partition("?")[2]


@dataclass(frozen=True, slots=True)
class Identity:
    """One event in a delivery: its key and what it is.

    payload is JSON text, or None with a parse_error. app_id: its tenant, None for the source's.
    """

    event_id: str
    event_type: str
    provider_type: str = ""
    subject: str | None = None
    occurred_at: datetime | None = None
    payload: str | None = None
    parse_error: str | None = None
    app_id: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The body of a 200, where the provider reads it."""

    body: bytes = b""
    media_type: str = "text/plain"


def unparseable(delivery: Delivery, reason: str) -> Identity:
    """Name an authentic delivery that can't be read: a dead letter, one for each distinct body."""
    return Identity(digest_of(delivery.body), "unparseable", parse_error=clip(reason, 1000))


def read_json(text: bytes) -> tuple[Any, str]:
    """Return JSON's value and its text for a jsonb column; of repeated keys the last counts, as in jsonb.

    A byte order mark is dropped; NUL and lone surrogates become U+FFFD in both. Raises Unparseable
    for what isn't JSON in UTF-8 (NaN and Infinity aren't), or is nested deeper than DEPTH_MAX.
    """
    try:
        plain = text.decode("utf-8-sig")
        value = _loads(plain)
        # Counted first: most bodies have fewer brackets than that, and need no walk.
        if plain.count("{") + plain.count("[") > DEPTH_MAX and _deeper(value, DEPTH_MAX):
            raise Unparseable(f"expected at most {DEPTH_MAX} levels of nesting")
        if "\\u" in plain and NOT_JSONB.search(plain):
            value = _clean(value)
            plain = json.dumps(value, ensure_ascii=False)
    except UnicodeDecodeError as error:
        raise Unparseable(f"expected UTF-8, got another byte at position {error.start}") from error
    except RecursionError as error:
        raise Unparseable(f"expected at most {DEPTH_MAX} levels of nesting") from error
    except json.JSONDecodeError as error:
        raise Unparseable(f"expected JSON, got {error.msg} at position {error.pos}") from error
    return value, plain


def read_object(text: bytes) -> tuple[dict[str, Any], str]:
    """As read_json, for providers that send an object."""
    value, plain = read_json(text)
    if not isinstance(value, dict):
        raise Unparseable(f"expected a JSON object, got {type(value).__name__}")
    return value, plain


def scalar(value: Any) -> str | None:
    """Return an id as text, or None for what can't be one. 1 and "1" are the same id."""
    if isinstance(value, str) and value:
        return clean(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None


def word(value: Any) -> str:
    """Return a provider's own word for a type or state, "" where there is none."""
    return clip(value) if isinstance(value, str) else ""


def part(value: Any, *path: str) -> Any:
    """Return what lies at *path* in nested objects, None where the path ends early."""
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def key(*parts: str | None) -> str:
    """Join an identity's parts into one key; parts that are None or "" are left out.

    Readable where that is unambiguous and short, else a digest of all parts.
    """
    present = [text for text in parts if text]
    plain = ":".join(present)
    # No part holds a colon: there are none but those between.
    if len(plain) <= KEY_MAX and plain.isprintable() and plain.count(":") < max(len(present), 1):
        return plain
    return digest_of(json.dumps(present).encode())


def about(kind: str, subject_id: str | None) -> str | None:
    """Return a subject, ``call/CA...``; None where there is no id."""
    return f"{kind}/{key(subject_id.replace(':', '_'))}" if subject_id else None


def digest_of(content: bytes) -> str:
    """Return the key of an event without an id of its own: a digest of what was signed."""
    return f"sha256:{sha256(content).hexdigest()}"


def from_epoch(value: Any) -> datetime | None:
    """Return the time of a number of seconds or milliseconds since 1970; None for anything else.

    Seconds have ten digits until the year 2286, milliseconds have had twelve since 1973.
    """
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 16:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return _sensible(datetime.fromtimestamp(value / 1000 if abs(value) >= 1e11 else value, UTC))
    except (ValueError, OverflowError, OSError):
        return None


def from_text(value: Any) -> datetime | None:
    """Return the time of an ISO 8601 or RFC 2822 text, UTC where it names no zone; None for anything else.

    A text of digits alone is a number of something since some day, though ISO 8601 has a form for it.
    """
    if not isinstance(value, str) or not value or value.isdigit():
        return None
    iso = value
    if (sent := RFC_2822.fullmatch(value)) and sent[2] in MONTHS:
        iso = f"{sent[3]}-{MONTHS.index(sent[2]) + 1:02d}-{sent[1]}T{sent[4]}+00:00"
    for parse, text in ((datetime.fromisoformat, iso), (parsedate_to_datetime, value)):
        try:
            time = parse(text)
            return _sensible((time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC))
        except (ValueError, OverflowError, IndexError, TypeError):
            continue
    return None


def first_of(times: Iterable[datetime | None]) -> datetime | None:
    """Return the first that is a time."""
    return next((time for time in times if time is not None), None)


def clean(text: str) -> str:
    """Return *text* as PostgreSQL can hold it: U+FFFD for NUL and for lone surrogates."""
    if text.isascii():
        return text.replace("\0", "\ufffd")
    return SURROGATE.sub("\ufffd", text).replace("\0", "\ufffd")


def clip(text: str, most: int = TEXT_MAX) -> str:
    """Return *text* cleaned, and at most so many characters of it."""
    return clean(text[:most])


def _sensible(time: datetime) -> datetime | None:
    """Return *time* if something can have happened then; the year 1 and 9999 are what some write for never."""
    return time if FIRST_YEAR <= time.year < LAST_YEAR else None


def _refuse(constant: str) -> Any:
    raise Unparseable(f"expected JSON, got {constant}, which is not a JSON number")


def _long(digits: str) -> int | str:
    return int(digits) if len(digits) <= 4000 else digits


# Made once: json.loads would make one each time.
decode = json.JSONDecoder(parse_constant=_refuse).decode
decode_long = json.JSONDecoder(parse_constant=_refuse, parse_int=_long).decode


def _loads(text: str) -> Any:
    try:
        return decode(text)
    except (json.JSONDecodeError, Unparseable):
        raise
    except ValueError:  # an integer of more than 4,300 digits, which jsonb takes
        return decode_long(text)


def _deeper(value: Any, levels: int) -> bool:
    level = [value]
    for _ in range(levels):
        level = [item for one in level for item in _items(one) if isinstance(item, dict | list)]
        if not level:
            return False
    return True


def _items(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(name): _clean(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_clean(item) for item in value]
    return value
