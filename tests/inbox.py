"""What the tests of the processor put into the table, and how they look at it."""

import json
from typing import Any

from psycopg import Connection, sql

from processor import operations
from processor.outcome import Totals


def add(conn: Connection, event_type: str = "call.ringing", *, payload: Any = None, **columns: Any) -> int:
    """Insert an event that is due, and return its id; its key and subject are new unless given.

    Without a payload it names its subject, as Twilio's have it.
    """
    (number,) = conn.execute("SELECT count(*) FROM webhook_events").fetchone() or (0,)
    values = {
        "source": "twilio",
        "provider": "twilio",
        "event_id": f"event-{number + 1}",
        "event_type": event_type,
        "subject": f"call/CA{number + 1}",
        **columns,
    }
    named = {"CallSid": str(values["subject"]).partition("/")[2]}
    values.setdefault("payload", json.dumps(named if payload is None else payload))
    statement = sql.SQL("INSERT INTO webhook_events ({}) VALUES ({}) RETURNING id").format(
        sql.SQL(", ").join(map(sql.Identifier, values)), sql.SQL(", ").join(map(sql.Placeholder, values))
    )
    (identifier,) = conn.execute(statement, values).fetchone() or (0,)
    return int(identifier)


def look(conn: Connection, event: int, columns: str) -> tuple[Any, ...]:
    """Return columns (SQL expressions) of an event."""
    row = conn.execute(f"SELECT {columns} FROM webhook_events WHERE id = %s".encode(), [event]).fetchone()
    assert row is not None
    return row


def process(conn: Connection, **options: Any) -> Totals:
    """Attempt once what is due now."""
    return operations.process_once(conn, **options)


def make_due(conn: Connection) -> None:
    """Let every wait be over: the events move, not the clock."""
    conn.execute("UPDATE webhook_events SET next_attempt_at = now() WHERE processed_at IS NULL AND dead_at IS NULL")
