"""What became of attempts, written to their events' rows."""

from datetime import timedelta

from psycopg import ClientCursor, Connection

from processor.arrays import array
from processor.outcome import Outcome
from processor.registry import Handler
from processor.session import worker_name
from sql import load


def record(conn: Connection, outcomes: list[Outcome], lease: int | None = None) -> None:
    """Write what became of the attempts, made under this lease, in the transaction that holds their rows."""
    if marks := mark_processed(conn, outcomes):
        conn.execute(marks)
    for outcome in outcomes:
        if not outcome.done:
            mark_failed(conn, outcome, lease)


def mark_processed(conn: Connection, outcomes: list[Outcome]) -> bytes:
    """Return SQL that closes those of the events that are done."""
    marks = []
    for result in ("handled", "no_handler"):
        chosen = [outcome for outcome in outcomes if outcome.result == result]
        if chosen:
            names = {
                "ids": array(outcome.event.id for outcome in chosen),
                "outcome": result,
                "durations": array(outcome.seconds for outcome in chosen),
                "versions": array(version(outcome.handlers) for outcome in chosen),
            }
            marks.append(ClientCursor(conn).mogrify(load("mark_processed"), names).encode())
    return b"".join(marks)


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


def version(handlers: tuple[Handler, ...]) -> str | None:
    """Return the version of these handlers; None where there was none."""
    return "+".join(dict.fromkeys(handler.version for handler in handlers)) or None
