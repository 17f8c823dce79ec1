"""A rehearsal: an event's handlers in a transaction that is rolled back, and what they would have done."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
from psycopg import Connection, IsolationLevel
from psycopg.rows import class_row

from processor import claim
from processor.attempt import Refused, attempt
from processor.event import Event
from processor.failure import describe
from processor.handed import Handed
from processor.outcome import Outcome
from processor.registry import Handler, handlers_of
from sql import load


@dataclass(frozen=True)
class Touched:
    """Rows of one table that an event's handlers changed."""

    name: str
    inserted: int
    updated: int
    deleted: int


@dataclass(frozen=True)
class Rehearsal:
    """What one event would come to: handled, no_handler, retry, dead, or outside where no handler was run.

    touched: by the handlers that ran, also where a failure undid it. not_run: handlers that call other services.
    """

    event: Event
    result: str
    error: str | None = None
    seconds: float | None = None
    touched: list[Touched] = field(default_factory=list)
    not_run: list[str] = field(default_factory=list)

    @property
    def row(self) -> dict[str, Any]:
        """What is printed of it."""
        tables = {
            table.name: {"inserted": table.inserted, "updated": table.updated, "deleted": table.deleted}
            for table in self.touched
        }
        return {
            "id": self.event.id,
            "event_type": self.event.event_type,
            "subject": self.event.subject,
            "result": self.result,
            "error": self.error,
            "seconds": self.seconds,
            "rows": tables,
            "not_run": self.not_run,
        }


def rehearse(connect: Callable[[], Connection], ids: list[int]) -> Iterator[Rehearsal]:
    """Run each event's handlers as its replay would, in the order of the ids, and yield what became of it.

    Nothing is committed, marked or counted: each event has a transaction of its own, which is rolled back, and which
    the database refuses to commit should a handler try. What stays are the numbers drawn from sequences and what
    handlers do elsewhere; those with outside=True are therefore not run. Locks are held no longer than an event's
    handlers take. connect() is called again where a handler closed its connection. Raises psycopg.OperationalError
    when the database goes away.
    """
    conn = None
    try:
        for identifier in sorted(ids):
            if conn is None or conn.closed:
                conn = connect()
                conn.autocommit = False
                conn.isolation_level = IsolationLevel.READ_COMMITTED
            event = _read(conn, identifier)
            if event is not None:
                yield _rehearse(conn, event)
            if not conn.closed:
                conn.rollback()
    finally:
        if conn is not None:
            conn.close()


def _rehearse(conn: Connection, event: Event) -> Rehearsal:
    handlers = handlers_of(event)
    inside = [handler for handler in handlers if not handler.outside]
    not_run = [handler.name for handler in handlers if handler.outside]
    if not_run and not inside:
        return Rehearsal(event, "outside", not_run=not_run)
    before = {table.name: table for table in _touched(conn)}
    outcome = _attempt(conn, event, inside)
    touched = [] if conn.closed else list(_since(before, _touched(conn)))
    return Rehearsal(event, outcome.result, outcome.error, outcome.seconds, touched, not_run)


def _attempt(conn: Connection, event: Event, handlers: list[Handler]) -> Outcome:
    """Return what an attempt comes to, with what a batch's end would have checked."""
    (run_id,) = conn.execute(load("guard_rehearsal")).fetchone() or (0,)
    try:
        handed = Handed(conn)
        outcome = attempt(handed, event, handlers)
        conn.execute(handed.end())
        conn.execute(load("end_run"), {"run_id": run_id})
    except (Refused, psycopg.Error) as error:
        if not conn.closed:
            conn.rollback()
        return Outcome(event, "retry", str(error) if isinstance(error, Refused) else describe(error))
    return outcome


def _touched(conn: Connection) -> list[Touched]:
    """Return what this transaction has touched, but for its guard, with what earlier ones had."""
    return conn.cursor(row_factory=class_row(Touched)).execute(load("count_touched")).fetchall()


def _since(before: dict[str, Touched], after: list[Touched]) -> Iterator[Touched]:
    """Yield the differences: earlier transactions' rows are counted too until the server has reported them."""
    for table in after:
        was = before.get(table.name, Touched(table.name, 0, 0, 0))
        now = Touched(
            table.name, table.inserted - was.inserted, table.updated - was.updated, table.deleted - was.deleted
        )
        if now != Touched(table.name, 0, 0, 0):
            yield now


def _read(conn: Connection, identifier: int) -> Event | None:
    """Return an event as its replay would have it; None where it is gone."""
    events = claim.read(conn, [identifier])
    return replace(events[0], attempt=1, replays=events[0].replays + 1, suspect=False, lease=None) if events else None
