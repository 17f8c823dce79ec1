"""Our Python voice agent, and any sender of JSON signed with HMAC-SHA256.

``X-Webhook-Signature`` is the hex HMAC of the raw body, ``sha256=`` before it or not; or the sender uses
Standard Webhooks headers. The body is ``{reminder_id, event_type, outcome, event_id?}``.

The key is ``event_id`` (or ``webhook-id``) where sent. Without one it is reminder, type and a digest of
the values: a retry in other white space is the same event, another outcome is another event, and two
calls that end in the very same words can't be told apart. Senders should send an ``event_id``.

Source: the agent's "Webhook Configuration Guide"; tests/vectors/payloads-voice-agent.json.
"""

import hmac
import json
import re

from pydantic import BaseModel, ConfigDict

from receiver.delivery import Answer, BadSignature, Delivery, Identity, about, digest_of, key, unparseable
from receiver.providers import standard_webhooks
from receiver.reading import Unparseable, read_object, scalar, word
from receiver.times import first_of, from_epoch, from_text

SIGNATURE = "x-webhook-signature"
METHODS = ("POST",)
NEEDS_BASE_URL = False
SECRET_BYTES = 32
# id.timestamp.body, which no JSON begins like. A secret that isn't base64 is the key of both schemes: an old delivery
# by Standard Webhooks, put into our header and body, would prove genuine, whatever its time.
STANDARD_TEXT = re.compile(rb"[^\s{\[\"][^\r\n]{0,300}?\.[0-9]{1,16}\.")
TYPES = {
    "call_answered": "call.answered",
    "call_completed": "call.completed",
    "call_failed": "call.failed",
}


class Options(BaseModel):
    """An agent source has no options of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def check_secret(secret: bytes, _options: Options) -> None:
    """Raise ValueError for a public key or an empty one, with which anyone could sign."""
    if secret.startswith(b"whpk_"):
        raise ValueError("is a public key, with which anyone could sign; set the signing secret, whsec_...")
    standard_webhooks.check_secret(secret)


def verify(delivery: Delivery, secret: bytes, _options: Options, now: float) -> None:
    """Raise BadSignature unless the body was signed with *secret*. *now* in unix seconds."""
    if standard_webhooks.sent(delivery):
        standard_webhooks.verify(delivery, secret, now)
        return
    given = delivery.headers.get(SIGNATURE)
    if not given:
        raise BadSignature(f"agent: no {SIGNATURE} header")
    if STANDARD_TEXT.match(delivery.body):
        raise BadSignature("agent: a body that is the signed text of Standard Webhooks")
    expected = sign(secret, delivery.body).encode()
    # Lower case, as documented and sent. As bytes: compare_digest raises TypeError on a str beyond ASCII.
    if not hmac.compare_digest(expected, given.removeprefix("sha256=").encode("utf-8", "replace")):
        raise BadSignature(f"agent: {SIGNATURE} does not match the body")


def sign(secret: bytes, body: bytes) -> str:
    """Return the value of X-Webhook-Signature."""
    return hmac.digest(secret, body, "sha256").hex()


def identify(delivery: Delivery, _options: Options) -> list[Identity]:
    """Name the one event of an authentic delivery."""
    try:
        fields, payload = read_object(delivery.body)
    except Unparseable as error:
        return [unparseable(delivery, f"agent: {error}")]
    provider_type = word(fields.get("event_type")) or word(fields.get("type"))
    reminder = scalar(fields.get("reminder_id"))
    times = (fields.get(name) for name in ("occurred_at", "timestamp"))
    return [
        Identity(
            _key(delivery, fields, reminder, provider_type),
            TYPES.get(provider_type, "other"),
            provider_type,
            about("reminder", reminder),
            first_of(time for value in times for time in (from_epoch(value), from_text(value))),
            payload,
        )
    ]


def answer(_delivery: Delivery, _options: Options) -> Answer:
    """Return an empty body: the agent reads the status alone."""
    return Answer()


def _key(delivery: Delivery, fields: dict[str, object], reminder: str | None, provider_type: str) -> str:
    if standard_webhooks.sent(delivery):
        return key(standard_webhooks.message_id(delivery))
    if event_id := scalar(fields.get("event_id")):
        return key(event_id)
    values = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    digest = digest_of(values)
    return key(reminder, provider_type, digest[7:39]) if reminder else digest
