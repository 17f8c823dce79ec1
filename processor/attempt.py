"""One attempt: an event's handlers in a savepoint of the batch's transaction, and what became of it."""

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.pq import TransactionStatus

from processor.backoff import backoff
from processor.event import Discard, Event, RetryLater
from processor.failure import describe
from processor.handed import Handed
from processor.outcome import Outcome
from processor.registry import MAX_ATTEMPTS, Handler

log = logging.getLogger("processor")

CONFLICTS_MAX = 3  # deadlocks and serialization failures in a row that cost no attempt
CONFLICTS = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
# And those of class 42: names, rights and syntax.
LEFT = (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable, psycopg.errors.ReadOnlySqlTransaction)
REPLANNED = "RevalidateCachedQuery"  # the server's function that finds a prepared statement outdated

Call = tuple[Handler, Callable[[Connection], Any]]  # what is called with the connection, and whose it is
Tell = Callable[[Handler], None]


class Refused(Exception):
    """A batch was not committed: its commit failed, or a handler ended its transaction or connection.

    events: those that may be to blame, the whole batch or the one at work. shared: or one before it, as well.
    """

    def __init__(self, events: list[Event], cause: BaseException, *, shared: bool = False) -> None:
        super().__init__(describe(cause))
        self.events = events
        self.shared = shared
        self.conflict = isinstance(cause, CONFLICTS)

    def join(self, other: "Refused") -> None:
        """Speak for another batch that was refused at the same time, as well."""
        self.events = self.events + other.events
        self.conflict = self.conflict or other.conflict


def attempt(conn: Handed, event: Event, handlers: list[Handler]) -> Outcome:
    """Run an event's handlers in a savepoint of the batch's transaction, and say what became of it.

    A deadlock or serialization failure has them run again at once, CONFLICTS_MAX times at most; so has, once, an error
    that may come of what an earlier event of the batch left on the session. Raises Refused when the
    batch's transaction did not survive them.
    """
    if not handlers:
        return unhandled(event)
    outcome = call_all(conn, event, calls_of(event, handlers))
    assert outcome is not None  # noqa: S101 - it shares no savepoint
    return outcome


def unhandled(event: Event) -> Outcome:
    """Return what becomes of an event that has no handler."""
    if event.parse_error is not None:  # a replayed one: still not readable, so still not skipped
        return Outcome(event, "dead", event.parse_error, counted=False)
    return Outcome(event, "no_handler", counted=False)


def calls_of(event: Event, handlers: list[Handler]) -> list[Call]:
    """Return the calls of these handlers, none of which is outside."""
    return [(handler, partial(handler.function, [event] if handler.batch else event)) for handler in handlers]


def call_all(conn: Handed, event: Event, calls: list[Call], tell: Tell | None = None) -> Outcome | None:
    """As attempt, for at least one call of whatever kind. tell: is told which handler is called next.

    Where events share a savepoint, conn.undone are those to be run again before any other; None: so is this one, after
    them.
    """
    started = time.monotonic()
    for conflicts in range(CONFLICTS_MAX + 1):
        ran: list[Handler] = []
        conn.begin(event)
        try:
            for handler, function in calls:
                ran.append(handler)
                if tell:
                    tell(handler)
                _call(conn, handler, function)
            conn.keep()
        except BaseException as error:  # noqa: BLE001 - sys.exit in a handler, too, is its event's outcome
            left = conn.used and _may_be_of_what_was_left(error)
            _undo(conn, [event], error)
            if (left or isinstance(error, CONFLICTS) or _outdated(error)) and conflicts < CONFLICTS_MAX:
                if conn.undone:
                    return None
                continue
            return failed(event, tuple(ran), error, time.monotonic() - started)
        break
    return Outcome(event, "handled", seconds=time.monotonic() - started, handlers=tuple(ran))


def attempt_together(conn: Handed, events: list[Event], handler: Handler, tell: Tell | None = None) -> list[Outcome]:
    """Run a batch handler on several events in one savepoint, and say that they are handled.

    Return nothing when it failed or answered: then nothing is left of it, and each event is to be attempted alone.
    Raises Refused when the batch's transaction did not survive it.
    """
    started = time.monotonic()
    conn.begin()
    try:
        if tell:
            tell(handler)
        _call(conn, handler, partial(handler.function, events[:]))
        conn.keep()
    except BaseException as error:  # noqa: BLE001 - as for one event
        _undo(conn, events, error)
        log.warning(
            "events taken apart count=%d first=%d handler=%s cause=%s",
            len(events), events[0].id, handler.name, type(error).__name__,
        )  # fmt: skip
        return []
    seconds = (time.monotonic() - started) / len(events)
    return [Outcome(event, "handled", seconds=seconds, handlers=(handler,)) for event in events]


def failed(event: Event, ran: tuple[Handler, ...], error: BaseException, seconds: float | None) -> Outcome:
    """Return what a failed attempt comes to: another after a wait, or death after as many as its handlers have."""
    if isinstance(error, Discard):
        return Outcome(event, "dead", describe(error), seconds=seconds, handlers=ran)
    yields = min((handler.skip_after for handler in ran if handler.skip_after is not None), default=None)
    if isinstance(error, RetryLater):
        later = timedelta(seconds=error.seconds)
        return Outcome(event, "retry", describe(error), later, False, seconds, ran, yields)
    most = max((handler.max_attempts for handler in ran[-1:]), default=MAX_ATTEMPTS)
    wait = None if event.attempt >= most else backoff(event.attempt)
    result = "dead" if wait is None else "retry"
    conflict = isinstance(error, CONFLICTS)
    return Outcome(
        event, result, describe(error), wait,
        seconds=seconds, handlers=ran, yields=yields, faulty=True, conflict=conflict,
    )  # fmt: skip


def _call(conn: Handed, handler: Handler, function: Callable[[Connection], Any]) -> None:
    """Run one handler. Raises what it raises or returns as an answer, RuntimeError for a transaction it broke."""
    answer = function(conn)
    if isinstance(answer, RetryLater | Discard):
        raise answer  # returned where it should be raised: meant all the same
    status = conn.pgconn.transaction_status
    if status == TransactionStatus.INERROR:
        raise RuntimeError(f"{handler.name} hid an SQL error; its writes can't be committed")
    if _busy(conn):
        raise RuntimeError(f"{handler.name} left a statement or a pipeline under way")
    if status != TransactionStatus.INTRANS:
        raise RuntimeError(f"{handler.name} ended the transaction it was given")


def _busy(conn: Handed) -> bool:
    """Tell whether a handler has left a result half read, a COPY or pipeline open, or the connection in other hands."""
    if conn.closed:
        return False
    under_way = conn.pgconn.transaction_status == TransactionStatus.ACTIVE
    return under_way or bool(conn.pgconn.pipeline_status) or conn.lock.locked()


def _may_be_of_what_was_left(error: BaseException) -> bool:
    """Tell whether an earlier event's function may be to blame for an error: by a table, cursor, role, path or timeout.

    The undoing has forgotten what it left.
    """
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    return state is not None and (state.startswith("42") or isinstance(error, LEFT))


def _outdated(error: BaseException) -> bool:
    """Tell whether a statement was prepared before a migration changed its columns; the undoing has unprepared it."""
    return isinstance(error, psycopg.errors.FeatureNotSupported) and error.diag.source_function == REPLANNED


def _undo(conn: Handed, events: list[Event], error: BaseException) -> None:
    """Roll events' writes back. Raises Refused when their transaction is gone, and the batch's with it."""
    if _busy(conn):
        conn.own.close()  # a rollback would wait for what nobody ends
    if conn.closed or conn.info.transaction_status not in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
        raise Refused(events, error) from error
    try:
        conn.undo()
    except psycopg.Error as lost:
        # A savepoint that is gone, though this one sent nothing that could have ended it: who did is unknown.
        shared = isinstance(lost, psycopg.errors.InvalidSavepointSpecification) and not conn.odd
        raise Refused(events, error, shared=shared) from error
    for event in events:
        event.restore()
