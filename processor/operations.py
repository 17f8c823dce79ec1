"""What an operator can see or press, as Python: the commands, and any program, call these.

Every function takes a psycopg connection in autocommit mode and commits what it changes before it returns.
"""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from psycopg import Connection, IsolationLevel
from psycopg.rows import class_row, dict_row, scalar_row
from psycopg.types.json import set_json_loads

from processor.event import read_payload
from processor.loop import BATCH_SIZE, Scope, Totals
from processor.session import Session
from processor.workers import Crew
from sql import load

CHUNK = 1000  # events a commit in bulk changes, so that no worker waits long for a row

Row = dict[str, Any]


@dataclass(frozen=True)
class Counts:
    """The headline figures; oldest_seconds is the age of the oldest unprocessed event, None without one."""

    unprocessed: int
    due: int
    retrying: int
    dead: int
    processed_last_hour: int
    oldest_received_at: datetime | None
    oldest_seconds: float | None


@dataclass(frozen=True)
class Filter:
    """Which events; every field given must match. Times are compared with received_at.

    state: waiting (not attempted yet), retrying, dead or processed. error: part of last_error, any case.
    """

    ids: list[int] | None = None
    source: str | None = None
    type: str | None = None
    subject: str | None = None
    state: str | None = None
    error: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def empty(self) -> bool:
        """Tell whether it matches every event there is."""
        return self == Filter()


def counts(conn: Connection) -> Counts:
    """Return the headline figures; their cost is the backlog's size, not the history's."""
    row = conn.cursor(row_factory=class_row(Counts)).execute(load("count_events")).fetchone()
    assert row is not None  # noqa: S101 - an aggregate without GROUP BY
    return row


def counts_by_type(conn: Connection) -> list[Row]:
    """Return the same figures a source and event type."""
    return conn.cursor(row_factory=dict_row).execute(load("count_by_type")).fetchall()


def find(conn: Connection, chosen: Filter, *, newest: bool = False, most: int | None = None) -> list[int]:
    """Return the ids of the events that match, oldest first, or the *newest* first; at most so many."""
    names = {**asdict(chosen), "newest": newest, "most": most}
    return conn.cursor(row_factory=scalar_row).execute(load("find_events"), names).fetchall()


def describe(conn: Connection, ids: list[int]) -> list[Row]:
    """Return what a list shows of these events, newest first: no payload, no body."""
    return conn.cursor(row_factory=dict_row).execute(load("describe_events"), {"ids": ids}).fetchall()


def show(conn: Connection, event: int) -> Row | None:
    """Return everything kept of one event, payload and body included; None when there is none."""
    cursor = conn.cursor(row_factory=dict_row)
    set_json_loads(_read, cursor)
    return cursor.execute(load("show_event"), {"id": event}).fetchone()


def replay(conn: Connection, ids: list[int]) -> int:
    """Make these events due again, their attempts reset, the replay counted; return how many there were.

    Commits every CHUNK events. An event that is being handled is waited for.
    """
    return _in_chunks(conn, "replay_events", ids)


def skip(conn: Connection, ids: list[int]) -> int:
    """Close these events without running their handlers; return how many were not processed yet."""
    return _in_chunks(conn, "skip_events", ids)


def process_once(
    conn: Connection,
    batch_size: int = BATCH_SIZE,
    max_events: int | None = None,
    scope: Scope | None = None,
) -> Totals:
    """Attempt what is due now, with the handlers registered so far, and return what became of it.

    Commits every batch. Raises psycopg.OperationalError when the database goes away, Refused when a batch's
    commit is refused (`processor run` then finds the event to blame). An event that ends the process is not
    counted: that takes a second connection, as `processor run` has it.
    """
    totals, isolation = Totals(), conn.isolation_level
    conn.isolation_level = IsolationLevel.READ_COMMITTED
    try:
        workers = [make() for make in Crew(lambda: conn, batch_size, scope or Scope()).makes()]
        while workers and totals.claimed != max_events:
            most = batch_size if max_events is None else min(batch_size, max_events - totals.claimed)
            batch = workers[0].batch(Session(conn, None), most)
            totals.add(batch.outcomes)
            if batch.idle and batch.all_seen:
                workers.pop(0)
            elif batch.idle:
                workers[0].cursor.restart()
    finally:
        if not conn.closed:
            conn.isolation_level = isolation
    return totals


def _read(text: str | bytes) -> Any:
    return read_payload(text if isinstance(text, str) else text.decode())


def _in_chunks(conn: Connection, statement: str, ids: list[int]) -> int:
    ids = sorted(ids)
    chunks = (ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK))
    return sum(conn.execute(load(statement), {"ids": chunk}).rowcount for chunk in chunks)
