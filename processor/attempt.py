"""One attempt: an event's handlers in a savepoint of the batch's transaction, and what became of it."""

import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from processor.arrays import array
from processor.backoff import backoff
from processor.event import Discard, Event, RetryLater
from processor.failure import describe
from processor.outcome import Outcome
from processor.registry import MAX_ATTEMPTS, Handler
from processor.session import worker_name
from sql import load

CONFLICTS_MAX = 3  # deadlocks and serialization failures in a row that cost no attempt
CONFLICTS = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
# Several in one string are one round trip. What a handler set on the session is not for the next one to find.
FORGET = (
    b"RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL; CLOSE ALL; UNLISTEN *; DISCARD TEMP; "
    b"SELECT pg_advisory_unlock_all(); "
)
KEEP = b"RELEASE SAVEPOINT event; " + FORGET
UNDO = b"ROLLBACK TO SAVEPOINT event; " + KEEP
SWAPPED = "a handler ended the transaction it was given, and began another"

Call = tuple[Handler, Callable[[Connection], Any]]  # what is called with the connection, and whose it is


class Refused(Exception):
    """A batch was not committed: its commit failed, or a handler ended its transaction or connection.

    events: those that may be to blame, the whole batch or the one at work.
    """

    def __init__(self, events: list[Event], cause: BaseException) -> None:
        super().__init__(describe(cause))
        self.events = events
        self.conflict = isinstance(cause, CONFLICTS)


def attempt(conn: Connection, event: Event, handlers: list[Handler], settings: bytes = b"") -> Outcome:
    """Run an event's handlers in a savepoint of the batch's transaction, and say what became of it.

    A deadlock or serialization failure has them run again at once, CONFLICTS_MAX times at most. settings: SQL of the
    transaction's, to be set again after what the handlers may have set is undone. Raises Refused when the batch's
    transaction did not survive them.
    """
    if not handlers:
        if event.parse_error is not None:  # a replayed one: still not readable, so still not skipped
            return Outcome(event, "dead", event.parse_error, counted=False)
        return Outcome(event, "no_handler", counted=False)
    return call_all(conn, event, calls_of(event, handlers), settings)


def calls_of(event: Event, handlers: list[Handler]) -> list[Call]:
    """Return the calls of these handlers, none of which is outside."""
    return [(handler, partial(handler.function, event)) for handler in handlers]


def call_all(conn: Connection, event: Event, calls: list[Call], settings: bytes = b"") -> Outcome:
    """As attempt, for at least one call of whatever kind."""
    started = time.monotonic()
    for conflicts in range(CONFLICTS_MAX + 1):
        ran: list[Handler] = []
        try:
            conn.execute("SAVEPOINT event")
            for handler, function in calls:
                ran.append(handler)
                _call(conn, handler, function)
            _leave(conn, KEEP + settings)
        except BaseException as error:  # noqa: BLE001 - sys.exit in a handler, too, is its event's outcome
            _undo(conn, event, error, settings)
            if isinstance(error, CONFLICTS) and conflicts < CONFLICTS_MAX:
                continue
            return failed(event, tuple(ran), error, time.monotonic() - started)
        break
    return Outcome(event, "handled", seconds=time.monotonic() - started, handlers=tuple(ran))


def record(conn: Connection, outcomes: list[Outcome], lease: int | None = None) -> None:
    """Write what became of the attempts, made under this lease, in the transaction that holds their rows."""
    for result in ("handled", "no_handler"):
        chosen = [outcome for outcome in outcomes if outcome.result == result]
        if chosen:
            names = {
                "ids": array(outcome.event.id for outcome in chosen),
                "outcome": result,
                "durations": array(outcome.seconds for outcome in chosen),
                "versions": array(version(outcome.handlers) for outcome in chosen),
            }
            conn.execute(load("mark_processed"), names)
    for outcome in outcomes:
        if outcome.result in ("retry", "dead"):
            mark_failed(conn, outcome, lease)


def mark_failed(conn: Connection, outcome: Outcome, lease: int | None = None) -> None:
    """Record a failed attempt, made under this lease, unless it is another worker's by now."""
    error = outcome.error or ""
    names = {
        "id": outcome.event.id,
        "attempt": outcome.event.attempt,
        "lease": lease,
        "counted": outcome.counted,
        "error": error,
        "error_class": error.partition(":")[0],
        "wait": outcome.wait,
        "yields": None if outcome.yields is None else timedelta(seconds=outcome.yields),
        "worker": worker_name(),
        "seconds": outcome.seconds,
        "handler": outcome.handlers[-1].name if outcome.handlers else None,
        "handler_version": version(outcome.handlers),
    }
    conn.execute(load("mark_failed"), names)


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


def version(handlers: tuple[Handler, ...]) -> str | None:
    """Return the version of these handlers; None where there was none."""
    return "+".join(dict.fromkeys(handler.version for handler in handlers)) or None


def _call(conn: Connection, handler: Handler, function: Callable[[Connection], Any]) -> None:
    """Run one handler. Raises what it raises or returns as an answer, RuntimeError for a transaction it broke."""
    answer = function(conn)
    if isinstance(answer, RetryLater | Discard):
        raise answer  # returned where it should be raised: meant all the same
    if conn.info.transaction_status is TransactionStatus.INERROR:
        raise RuntimeError(f"{handler.name} hid an SQL error; its writes can't be committed")
    if conn.info.transaction_status is not TransactionStatus.INTRANS:
        raise RuntimeError(f"{handler.name} ended the transaction it was given")


def _undo(conn: Connection, event: Event, error: BaseException, settings: bytes) -> None:
    """Roll an event's writes back. Raises Refused when its transaction is gone, and the batch's with it."""
    if conn.closed or conn.info.transaction_status not in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
        raise Refused([event], error) from error
    try:
        _leave(conn, UNDO + settings)
    except psycopg.Error:
        raise Refused([event], error) from error


def _leave(conn: Connection, how: bytes) -> None:
    """End an event's savepoint, and forget what its handlers set on the session or on our side of it."""
    conn.execute(how)
    conn.row_factory = tuple_row
    conn.cursor_factory = psycopg.Cursor
    conn.prepare_threshold = None
