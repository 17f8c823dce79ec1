"""One attempt: an event's handlers in a savepoint of the batch's transaction, and what became of it."""

import time
from dataclasses import dataclass
from datetime import timedelta

from psycopg import Connection
from psycopg.pq import TransactionStatus

from processor.backoff import backoff
from processor.event import Discard, Event, RetryLater
from processor.failure import describe
from processor.registry import MAX_ATTEMPTS, Handler
from sql import load


@dataclass(frozen=True)
class Outcome:
    """What became of one attempt: handled, no_handler, retry (after wait) or dead."""

    event: Event
    result: str
    error: str | None = None
    wait: timedelta | None = None
    counted: bool = True
    seconds: float = 0.0


class Refused(Exception):
    """A batch was not committed: its commit failed, or a handler ended its transaction or connection.

    events: those that may be to blame, the whole batch or the one at work.
    """

    def __init__(self, events: list[Event], cause: BaseException) -> None:
        super().__init__(describe(cause))
        self.events = events


def attempt(conn: Connection, event: Event, handlers: list[Handler]) -> Outcome:
    """Run an event's handlers in a savepoint of the batch's transaction, and say what became of it.

    Raises Refused when the batch's transaction did not survive them.
    """
    started = time.monotonic()
    if not handlers:
        if event.parse_error is not None:  # a replayed one: still not readable, so still not skipped
            return Outcome(event, "dead", event.parse_error, counted=False)
        return Outcome(event, "no_handler", counted=False)
    handler = handlers[0]
    try:
        with conn.transaction():
            for handler in handlers:
                answer = handler.function(event, conn)
                if isinstance(answer, RetryLater | Discard):
                    raise answer  # noqa: TRY301 - returned where it should be raised: meant all the same
                _check(conn, handler)
    except RetryLater as answer:
        return Outcome(event, "retry", describe(answer), timedelta(seconds=answer.seconds), counted=False)
    except Discard as answer:
        return Outcome(event, "dead", describe(answer))
    except BaseException as error:
        if conn.closed or conn.info.transaction_status is not TransactionStatus.INTRANS:
            raise Refused([event], error) from error
        return failed(event, [handler], error)
    return Outcome(event, "handled", seconds=time.monotonic() - started)


def record(conn: Connection, outcomes: list[Outcome]) -> None:
    """Write what became of the attempts, in the transaction that holds their rows."""
    for result in ("handled", "no_handler"):
        ids = [outcome.event.id for outcome in outcomes if outcome.result == result]
        if ids:
            conn.execute(load("mark_processed"), {"ids": ids, "outcome": result})
    for outcome in outcomes:
        if outcome.result in ("retry", "dead"):
            names = {
                "id": outcome.event.id,
                "attempt": outcome.event.attempt,
                "counted": outcome.counted,
                "error": outcome.error,
                "wait": outcome.wait,
            }
            conn.execute(load("mark_failed"), names)


def failed(event: Event, to_blame: list[Handler], error: BaseException) -> Outcome:
    """Return what a failed attempt comes to: another after a backoff, or death after as many as its handlers have."""
    most = max((handler.max_attempts for handler in to_blame), default=MAX_ATTEMPTS)
    if event.attempt >= most:
        return Outcome(event, "dead", describe(error))
    return Outcome(event, "retry", describe(error), backoff(event.attempt))


def _check(conn: Connection, handler: Handler) -> None:
    """Raise RuntimeError if the handler left the transaction other than it was given it."""
    status = conn.info.transaction_status
    if status is TransactionStatus.INERROR:
        raise RuntimeError(f"{handler.name} hid an SQL error; its writes can't be committed")
    if status is not TransactionStatus.INTRANS:
        raise RuntimeError(f"{handler.name} ended the transaction it was given")
