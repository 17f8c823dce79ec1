"""What `processor run` does with the events of drain.py and latency.py."""

import inspect
from collections.abc import Sequence
from typing import Any

from psycopg import Connection

from benchmarks.jobs import EFFECT, UPSERT, marks
from processor import Event, on

UPSERT_ALL = """
    INSERT INTO drained (subject, event, times)
    SELECT subject, max(event), count(*) FROM unnest(%s::text[], %s::bigint[]) AS job (subject, event) GROUP BY subject
    ON CONFLICT (subject) DO UPDATE SET event = excluded.event, times = drained.times + excluded.times
"""
BATCHED: dict[str, Any] = {"batch": True}
TAKES_BATCHES = "batch" in inspect.signature(on).parameters


@on("nothing")
def do_nothing(event: Event, conn: Connection) -> None:  # noqa: ARG001 - nothing
    """Succeed."""
    marks.called()


@on("upsert")
def upsert(event: Event, conn: Connection) -> None:
    """Write one row."""
    marks.called()
    conn.execute(UPSERT, [event.subject, event.id])


def upsert_all(events: Sequence[Event], conn: Connection) -> None:
    """Write a batch's rows."""
    marks.called(len(events))
    conn.execute(UPSERT_ALL, [[event.subject for event in events], [event.id for event in events]])


if TAKES_BATCHES:
    on("upsert.batch", **BATCHED)(upsert_all)


@on("call.answered")
def write(event: Event, conn: Connection) -> None:
    """Write one row, and have whoever measures told of it at the commit."""
    conn.execute(EFFECT, [event.event_id])
