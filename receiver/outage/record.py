"""What the spool's file holds of one event: its row as JSON, the body as it is, and a digest of both."""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

Row = Mapping[str, Any]


class Unreadable(ValueError):
    """A record that is not what was written. The message says in what."""


@dataclass(frozen=True, slots=True)
class Record:
    """One event that waits: its row, and when its delivery arrived, in unix seconds of this machine's clock.

    tried: an insert of it was begun before, and may have committed.
    """

    id: int
    arrived_at: float
    tried: bool
    row: dict[str, Any]
    size: int


def encode(arrived_at: float, row: Row) -> tuple[bytes, bytes, bytes]:
    """Return a row's fields as JSON, its body, and the digest of both and of the time."""
    fields = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in row.items()
        if name != "body"
    }
    text, body = json.dumps(fields).encode(), bytes(row["body"])
    return text, body, _digest(arrived_at, text, body)


def decode(arrived_at: Any, fields: Any, body: Any, digest: Any) -> dict[str, Any]:
    """Return the row. Raises Unreadable."""
    try:
        right = _digest(arrived_at, fields, body) == digest
        row: dict[str, Any] = json.loads(fields)
        if row["occurred_at"] is not None:
            row["occurred_at"] = datetime.fromisoformat(row["occurred_at"])
    except (TypeError, ValueError, KeyError, struct.error) as error:
        raise Unreadable(f"it can't be read ({type(error).__name__})") from error
    if not right:
        raise Unreadable("its checksum does not match")
    return {**row, "body": body}


def _digest(arrived_at: float, fields: bytes, body: bytes) -> bytes:
    return sha256(struct.pack("!dQ", arrived_at, len(fields)) + fields + body).digest()
