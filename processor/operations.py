"""What an operator can see or press of events, as Python: the commands, and any program, call these.

Every function takes a psycopg connection in autocommit mode and commits what it changes before it returns.
"""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg import Connection, IsolationLevel
from psycopg.rows import class_row, dict_row, scalar_row
from psycopg.types.json import set_json_loads

from processor import actions
from processor.claim import Scope
from processor.event import read_payload
from processor.expect import raise_overdue
from processor.outcome import Totals
from processor.session import Session
from sql import load

ACTIONS_MAX = 1000  # on one event

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
class History:
    """The figures of all events that are kept; event_types: how many different ones there are.

    processed: handled, without a handler, or skipped. oldest_unprocessed: when it was received, None without one.
    """

    unprocessed: int
    processed: int
    event_types: int
    oldest_unprocessed: datetime | None


@dataclass(frozen=True)
class Filter:
    """Which events; every field given must match. Times are compared with received_at.

    state: waiting (not attempted yet), retrying, dead or processed. error: part of last_error, any case.
    after: only greater ids. dead_for: only dead letters, for longer than that.
    """

    ids: list[int] | None = None
    source: str | None = None
    type: str | None = None
    subject: str | None = None
    state: str | None = None
    error: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    after: int | None = None
    dead_for: timedelta | None = None

    @property
    def empty(self) -> bool:
        """Tell whether it matches every event there is."""
        return self == Filter()


def clock(conn: Connection) -> datetime:
    """Return the database's time."""
    now = conn.cursor(row_factory=scalar_row).execute(load("read_clock")).fetchone()
    assert isinstance(now, datetime)  # noqa: S101 - a timestamptz
    return now


def counts(conn: Connection) -> Counts:
    """Return the headline figures; their cost is the backlog's size, not the history's."""
    row = conn.cursor(row_factory=class_row(Counts)).execute(load("count_events")).fetchone()
    assert row is not None  # noqa: S101 - an aggregate without GROUP BY
    return row


def counts_by_type(conn: Connection) -> list[Row]:
    """Return the same figures a source and event type."""
    return conn.cursor(row_factory=dict_row).execute(load("count_by_type")).fetchall()


def totals(conn: Connection) -> History:
    """Return the figures of the whole history; reads the whole table, which takes seconds where it has millions."""
    row = conn.cursor(row_factory=class_row(History)).execute(load("count_all")).fetchone()
    assert row is not None  # noqa: S101 - an aggregate without GROUP BY
    return row


def breakers(conn: Connection) -> list[Row]:
    """Return the handlers that keep failing, whose events wait for a probe at probe_at."""
    return conn.cursor(row_factory=dict_row).execute(load("list_breakers")).fetchall()


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


def timeline(conn: Connection, event: Row) -> list[Row]:
    """Return what happened to an event that show() returned, in the order of time.

    A row an attempt, replay or skip; what: retry, dead, handled, no_handler, skipped, or a command's verb. replays:
    which of the event's lives it belongs to, the first being 0. An earlier life's success leaves no row.
    """
    attempts = conn.cursor(row_factory=dict_row).execute(load("list_attempts"), {"id": event["id"]}).fetchall()
    found = [{"at": row.pop("failed_at"), "what": row.pop("result"), **row} for row in attempts]
    found += [
        {"at": row["started_at"], "what": row["verb"], "who": row["who"], "reason": row["reason"]}
        for row in actions.recent(conn, ACTIONS_MAX, event["id"])
    ]
    if event["processed_at"]:
        last = {name: event[name] for name in ("replays", "seconds", "handler_version")}
        attempt = event["attempts"] if event["outcome"] == "handled" else None
        found.append({"at": event["processed_at"], "what": event["outcome"], "attempt": attempt, **last})
    return sorted(found, key=lambda row: row["at"])


def bodiless(conn: Connection, ids: list[int]) -> set[int]:
    """Return those of these events whose body retention has removed: they can't be handled again."""
    return set(conn.cursor(row_factory=scalar_row).execute(load("find_bodiless"), {"ids": ids}))


def replay(conn: Connection, ids: list[int]) -> int:
    """Make these events due again, their attempts reset, the replay counted; return how many there were.

    An event that is being handled is waited for. One without a body becomes a dead letter that says so.
    """
    return conn.execute(load("replay_events"), {"ids": ids}).rowcount


def skip(conn: Connection, ids: list[int]) -> int:
    """Close these events without running their handlers; return how many were not processed yet."""
    return conn.execute(load("skip_events"), {"ids": ids}).rowcount


def purge(conn: Connection, ids: list[int]) -> int:
    """Delete these dead letters for good, and what is kept of them elsewhere; return how many were dead."""
    (removed,) = conn.execute(load("purge_events"), {"ids": ids}).fetchone() or (0,)
    return int(removed)


def dead_groups(conn: Connection, ids: list[int]) -> list[Row]:
    """Return these dead letters by event type and how their error begins, the largest group first."""
    return conn.cursor(row_factory=dict_row).execute(load("group_dead"), {"ids": ids}).fetchall()


def process_once(
    conn: Connection,
    batch_size: int | None = None,
    max_events: int | None = None,
    scope: Scope | None = None,
) -> Totals:
    """Attempt what is due now, with the handlers registered so far, and return what became of it.

    What is overdue is put into the inbox first. Commits that, and every batch. Raises psycopg.OperationalError when the
    database goes away, Refused when a batch's commit is refused (`processor run` then finds the event to blame). An
    event that ends the process is not counted: that takes a second connection, as `processor run` has it.
    batch_size: None: as many as `processor run` takes.
    """
    # Imported here: an operator who only looks waits for no worker.
    from processor.loop import BATCH_SIZE  # noqa: PLC0415
    from processor.workers import Crew  # noqa: PLC0415

    batch_size = BATCH_SIZE if batch_size is None else batch_size
    done, isolation = Totals(), conn.isolation_level
    conn.isolation_level = IsolationLevel.READ_COMMITTED
    try:
        raise_overdue(conn)
        workers = [make() for make in Crew(lambda: conn, batch_size, scope or Scope()).makes()]
        session = Session(conn, None)
        while workers and done.claimed != max_events:
            most = batch_size if max_events is None else min(batch_size, max_events - done.claimed)
            batch = workers[0].batch(session, most)
            done.add(batch.outcomes)
            if batch.idle and batch.all_seen:
                workers.pop(0)
            elif batch.idle:
                workers[0].cursor.restart()
    finally:
        if not conn.closed:
            conn.isolation_level = isolation
    return done


def _read(text: str | bytes) -> Any:
    return read_payload(text if isinstance(text, str) else text.decode())
