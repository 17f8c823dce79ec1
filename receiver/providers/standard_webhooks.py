"""The Standard Webhooks 1.0 signature, version v1: a scheme that several senders share, not a provider.

``webhook-signature`` holds ``v1,<base64>`` elements parted by blanks; any one that is the HMAC-SHA256 of
``{webhook-id}.{webhook-timestamp}.{raw body}`` suffices (rotation). The key is the base64 after
``whsec_``, with or without its padding. Svix sends the same under ``svix-`` names. The timestamp is of
the attempt, the id of the event: only the id is the same over retries.

Source: github.com/standard-webhooks/standard-webhooks, spec; tests/vectors/signatures-standard-webhooks.json.
Version v1a (Ed25519) would need a cryptography package, and no provider here sends it alone.
"""

import binascii
import hmac
from base64 import b64decode, b64encode

from receiver.delivery import BadSignature, Delivery

ELEMENTS_MAX = 10
TOLERANCE = 300.0  # seconds, both ways
MILLISECONDS = 12  # digits that seconds won't have for 3,000 years, and milliseconds have had since 1973


def check_secret(secret: bytes) -> None:
    """Raise ValueError for a secret without a key in it: what remains of whsec_${NAME} where NAME is not set."""
    if not _key(secret):
        raise ValueError("is whsec_ with nothing behind it: no key, so anyone could sign; set the whole secret")


def sent(delivery: Delivery) -> bool:
    """Tell whether the sender speaks this scheme."""
    return "webhook-signature" in delivery.headers or "svix-signature" in delivery.headers


def message_id(delivery: Delivery) -> str:
    """Return the event's id, signed and the same over retries: of the headers that were verified, and no others."""
    return delivery.headers.get(f"{_prefix(delivery)}-id", "")


def verify(delivery: Delivery, secret: bytes, now: float) -> None:
    """Raise BadSignature unless one element was made with *secret* within TOLERANCE of *now* (unix seconds)."""
    prefix = _prefix(delivery)
    identifier, timestamp, signatures = (
        delivery.headers.get(f"{prefix}-{name}", "") for name in ("id", "timestamp", "signature")
    )
    if not identifier or not signatures:
        raise BadSignature(f"standard webhooks: no {prefix}-id or {prefix}-signature header")
    if len(timestamp) >= MILLISECONDS:
        raise BadSignature("standard webhooks: expected a timestamp in seconds")
    check_timestamp(timestamp, now, TOLERANCE)
    expected = sign(secret, identifier, timestamp, delivery.body).encode()
    # Two headers are joined by ", ": their elements count like those of one, whichever comes first.
    elements = signatures.replace(", ", " ").split(" ", ELEMENTS_MAX)[:ELEMENTS_MAX]
    # All are compared, so that the time taken tells nothing of which matched.
    matches = [hmac.compare_digest(element.encode("utf-8", "replace"), expected) for element in elements]
    if not any(matches):
        raise BadSignature(f"standard webhooks: no element of {prefix}-signature matches")


def sign(secret: bytes, identifier: str, timestamp: str, body: bytes) -> str:
    """Return the element ``v1,<base64>`` for these bytes."""
    signed = f"{identifier}.{timestamp}.".encode("latin-1", "replace") + body
    return "v1," + b64encode(hmac.digest(_key(secret), signed, "sha256")).decode()


def check_timestamp(text: str, now: float, tolerance: float) -> None:
    """Raise BadSignature unless *text* is digits only and within *tolerance* seconds of *now*, both ways.

    MILLISECONDS digits and more are taken for those.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 16):
        raise BadSignature("timestamp: expected digits only")
    seconds = int(text) / 1000 if len(text) >= MILLISECONDS else int(text)
    if abs(now - seconds) > tolerance:
        raise BadSignature(f"timestamp: more than {tolerance:.0f} s from this machine's clock")


def _prefix(delivery: Delivery) -> str:
    return "webhook" if "webhook-signature" in delivery.headers else "svix"


def _key(secret: bytes) -> bytes:
    """Return the key's bytes; a secret that isn't base64 is taken as it is."""
    text = secret.removeprefix(b"whsec_")
    try:
        return b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return secret
