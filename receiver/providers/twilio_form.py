"""Twilio's form encoding, and which bytes of a request its signature covers.

Equal to urllib and the SDK on everything Twilio sends, by property (tests/test_twilio.py); in bytes,
because a signature is over bytes, and about five times as fast.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import unquote_to_bytes

from receiver.delivery import BadSignature, Delivery
from receiver.providers.twilio_plain import plain_canonical, plain_fields
from receiver.reading import clean

FORM = "application/x-www-form-urlencoded"
REMEMBERED_MAX = 16 * 1024  # bytes of a form; parsed it takes up to forty times as much memory


@dataclass(slots=True)
class Fields:
    """A form that is read: values by name, a list where a name is repeated; how many they are; what is signed."""

    values: Mapping[str, str | list[str]]
    count: int
    signed: bytes

    def get(self, name: str) -> str:
        """Return a field's first value, "" where there is none."""
        value = self.values.get(name, "")
        return value if isinstance(value, str) else value[0]


def fields_of(delivery: Delivery) -> Fields:
    """Return the fields of a delivery's form, which is read once."""
    fields: Fields | None = delivery.memory.get("fields")
    if fields is None:
        encoded = form_bytes(delivery)
        fields = read_form(encoded)
        if len(encoded) <= REMEMBERED_MAX:
            delivery.memory["fields"] = fields
    return fields


def read_form(encoded: bytes) -> Fields:
    """Return a form's fields, in the short way where that is one."""
    plain = plain_fields(encoded)
    if plain is not None:
        return Fields(plain, len(plain), plain_canonical(plain))
    return read_any_form(encoded)


def read_any_form(encoded: bytes) -> Fields:
    """Return a form's fields, whatever its bytes are."""
    pairs = parse_form(encoded)
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(text_of(name), []).append(text_of(value))
    return Fields({name: one if one[1:] else one[0] for name, one in values.items()}, len(pairs), canonical(pairs))


def parse_form(body: bytes) -> list[tuple[bytes, bytes]]:
    """Return a form's names and values, decoded to bytes, in wire order; blank and repeated ones included.

    Equal to urllib's parse_qsl with keep_blank_values on UTF-8 (tests/test_twilio.py), but it keeps
    bytes that aren't UTF-8 as they were signed.
    """
    pairs = (field.partition(b"=") for field in body.split(b"&") if field)
    return [(_decode(name), _decode(value)) for name, _, value in pairs]


def _decode(text: bytes) -> bytes:
    text = text.replace(b"+", b" ")
    return unquote_to_bytes(text) if b"%" in text else text


def canonical(pairs: list[tuple[bytes, bytes]]) -> bytes:
    """Return what is signed of a form. UTF-8 sorts by bytes as text does by code points."""
    return b"".join(name + value for name, value in sorted(set(pairs)))


def signed_fields(delivery: Delivery) -> bytes:
    """Return what follows the URL in the signed bytes. Raises BadSignature for a body nothing covers."""
    # A body that the URL names can't be left out, either: the URL would prove what was never sent.
    if not delivery.body and "bodySHA256" not in delivery.query:
        return b""
    if delivery.body and delivery.method == "GET":
        raise BadSignature("twilio: a GET with a body, which no signature covers")
    if delivery.body and is_form(delivery):
        return fields_of(delivery).signed
    hashes = [value for name, value in parse_form(query_bytes(delivery)) if name == b"bodySHA256"]
    expected = sha256(delivery.body).hexdigest().encode()
    if len(hashes) != 1 or not hmac.compare_digest(hashes[0], expected):
        raise BadSignature("twilio: a body that is neither a form nor covered by bodySHA256 in the URL")
    return b""


def signed_content(delivery: Delivery) -> bytes:
    """Return the signed bytes without the origin: fields sent in another order are the same event."""
    return delivery.target.encode("latin-1", "replace") + signed_fields(delivery)


def is_form(delivery: Delivery) -> bool:
    """Tell whether the body is declared to be a form."""
    media_type = delivery.headers.get("content-type", "").partition(";")[0]
    return media_type.strip().lower() == FORM


def form_bytes(delivery: Delivery) -> bytes:
    """Return the encoded form: the body, or without one the query.

    Not by the method: it isn't signed, and a captured GET, sent again as a POST, is the same event.
    """
    return delivery.body or query_bytes(delivery)


def query_bytes(delivery: Delivery) -> bytes:
    """Return the URL's query as it was sent."""
    return delivery.query.encode("latin-1", "replace")


def text_of(value: bytes) -> str:
    """Return a name or value as text that PostgreSQL can hold."""
    return clean(value.decode("utf-8", "replace"))
