"""New events as they come, for `processor events tail`."""

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

from psycopg import Connection

from processor import operations
from processor.operations import Filter, Row

# An id is given before its row is committed, so a lower one can appear after a higher. Every look goes back so far;
# the receiver gives an insert up after seconds.
LATE = timedelta(seconds=60)
INTERVAL = 1.0  # seconds between two looks


def newest(conn: Connection, chosen: Filter, most: int) -> list[Row]:
    """Return the newest events that match, at most so many, in the order of their ids."""
    return operations.describe(conn, operations.find(conn, chosen, newest=True, most=most))[::-1]


def follow(conn: Connection, chosen: Filter, most: int, interval: float = INTERVAL) -> Iterator[list[Row]]:
    """Yield the newest events that match, and then, for ever, those that were stored since.

    An event is yielded once, also where it is committed up to LATE after others of greater ids; a filter by state or
    error takes what an event is when it is first seen. Each look reads what was received within LATE.
    """
    seen = set(operations.find(conn, _lately(conn, chosen)))
    first = newest(conn, chosen, most)
    seen.update(row["id"] for row in first)
    yield first
    while True:
        time.sleep(interval)
        found = set(operations.find(conn, _lately(conn, chosen)))
        if found - seen:
            yield operations.describe(conn, sorted(found - seen))[::-1]
        seen = found


def _lately(conn: Connection, chosen: Filter) -> Filter:
    """Return *chosen*, of what was received within LATE."""
    since = operations.clock(conn) - LATE
    return replace(chosen, since=max(since, chosen.since or since))
