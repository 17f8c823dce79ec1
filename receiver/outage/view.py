"""What lies in the spools of a directory, read beside a receiver that may be at work on them. Changes nothing."""

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from receiver.outage.slot import is_held

COUNTS = """
    SELECT (SELECT count(*) FROM records),
           (SELECT coalesce(sum(length(fields) + length(body)), 0) FROM records),
           (SELECT min(arrived_at) FROM records),
           (SELECT count(*) FROM rejected)
"""
ROWS = """
    SELECT id, arrived_at, fields, length(body), NULL FROM records
     UNION ALL
    SELECT id, arrived_at, fields, length(body), reason FROM rejected
     ORDER BY id
"""
BODY = "SELECT body FROM records WHERE id = :id UNION ALL SELECT body FROM rejected WHERE id = :id"


def files(directory: Path) -> list[Path]:
    """Return the spools' files."""
    return sorted(directory.glob("slot-*.db"))


def state(path: Path) -> dict[str, Any]:
    """Return a file's numbers; live: a receiver holds it. Raises sqlite3.Error."""
    with closing(_open(path)) as conn:
        deliveries, size, oldest_at, rejected = conn.execute(COUNTS).fetchone()
    age = round(max(0.0, time.time() - oldest_at), 1) if oldest_at is not None else None
    return {"file": path.stem, "live": is_held(path), "deliveries": deliveries, "bytes": size,
            "oldest_age_seconds": age, "rejected": rejected}  # fmt: skip


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield each waiting and each rejected event: what it is, nothing of what it says. Raises sqlite3.Error."""
    with closing(_open(path)) as conn:
        for number, arrived_at, fields, size, reason in conn.execute(ROWS):
            row = _fields(fields)
            yield {
                "id": f"{path.stem}/{number}", "source": row.get("source"), "event_type": row.get("event_type"),
                "event_id": row.get("event_id"), "age_seconds": round(max(0.0, time.time() - arrived_at), 1),
                "bytes": size, "rejected": reason,
            }  # fmt: skip


def body(path: Path, number: int) -> bytes | None:
    """Return one's body, None where there is none of this id. Raises sqlite3.Error."""
    with closing(_open(path)) as conn:
        found = conn.execute(BODY, {"id": number}).fetchone()
    return found and bytes(found[0])


def _open(path: Path) -> sqlite3.Connection:
    # Not mode=ro, which can't read a file that was closed well: SQLite needs to make its log's index.
    conn = sqlite3.connect(f"file:{path}?mode=rw", uri=True, isolation_level=None, timeout=1)
    conn.execute("PRAGMA query_only = ON")
    return conn


def _fields(text: Any) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
