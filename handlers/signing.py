"""How what we send is signed: as our voice agent does it, and as Standard Webhooks has it (version v1).

Twins of the receiver's ``sign`` functions, which handlers can't import; tests hold both to the same vectors.

Sources: the agent's "Webhook Configuration Guide"; github.com/standard-webhooks/standard-webhooks, spec.
"""

import binascii
import hmac
from base64 import b64decode, b64encode


def agent_signature(secret: str, body: bytes) -> str:
    """Return the value of X-Webhook-Signature: the hex HMAC-SHA256 of *body*."""
    return hmac.digest(secret.encode(), body, "sha256").hex()


def standard_webhooks_headers(secret: str, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the three headers that prove *body*.

    message_id: the same over all attempts, so that the receiver knows a retry; its idempotency key. timestamp: unix
    seconds of this attempt; receivers refuse one that is 5 minutes off. The key is the base64 after ``whsec_``, or
    the secret's text where that isn't base64. Raises ValueError for an id that no header can carry.
    """
    if not (message_id.isascii() and message_id.isprintable() and message_id.strip() == message_id != ""):
        raise ValueError(f"expected a message id in printable ASCII, got {message_id!r}")
    signed = f"{message_id}.{timestamp}.".encode() + body
    signature = b64encode(hmac.digest(_key(secret), signed, "sha256")).decode()
    return {"webhook-id": message_id, "webhook-timestamp": str(timestamp), "webhook-signature": f"v1,{signature}"}


def _key(secret: str) -> bytes:
    text = secret.removeprefix("whsec_").encode()
    try:
        return b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return secret.encode()
