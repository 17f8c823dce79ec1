"""A delivery, and what its events are called. No I/O: bytes in, values out.

Every provider's module works on these. Verifying comes first, on raw bytes; only an authentic
delivery is parsed, and one that is authentic is never refused for what it says.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any

from receiver.reading import clip

# A btree key ends at 2,704 bytes, so a provider's id can't be taken at any length.
KEY_MAX = 200


class BadSignature(Exception):
    """Not proven to come from the provider. Says which proof failed; never the secret, signature or body."""


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
