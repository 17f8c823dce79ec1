"""Circuit breakers: the events of an outside handler that keeps failing wait for a probe, and spend no attempt."""

import logging
import time
from collections import Counter
from datetime import timedelta

from psycopg import Connection

from processor.registry import HANDLERS, Handler, Kind
from sql import load

log = logging.getLogger("processor")

BREAK_AFTER = 20  # failures in a row of one worker
PROBE_SECONDS = 60.0
FRESH_SECONDS = 1.0  # for which what other workers have opened or closed may be unknown here


class Breakers:
    """What one worker knows of the breakers, which all workers share in webhook_breakers."""

    def __init__(self) -> None:
        self.in_a_row: Counter[str] = Counter()
        self.due: dict[str, bool] = {}  # the open ones: whether a probe may be made
        self._read_at = float("-inf")

    def forget(self, conn: Connection) -> None:
        """Close those of handlers that are gone."""
        conn.execute(load("forget_breakers"))

    def read(self, conn: Connection) -> None:
        """Learn which are open, unless that was read just now."""
        if time.monotonic() - self._read_at >= FRESH_SECONDS:
            self.due = dict(conn.execute(load("open_breakers")).fetchall())
            self._read_at = time.monotonic()

    def shut(self, probed: Handler | None = None) -> tuple[Kind, ...]:
        """Return the kinds of events that wait; not those that are *probed*, which may have several such handlers."""
        return tuple(
            (event_type, handler.provider, handler.source)
            for handler in HANDLERS
            if handler.name in self.due and not (probed and set(handler.event_types) & set(probed.event_types))
            for event_type in handler.event_types
        )

    def take_probe(self, conn: Connection) -> Handler | None:
        """Return a handler, one event of which this worker may try; nobody else does for PROBE_SECONDS."""
        for handler in HANDLERS:
            if self.due.get(handler.name):
                self.due[handler.name] = False
                names = {"handler": handler.name, "wait": timedelta(seconds=PROBE_SECONDS)}
                if conn.execute(load("take_probe"), names).rowcount:
                    return handler
        return None

    def succeeded(self, conn: Connection, handler: Handler) -> None:
        """Count a success: the handler's breaker closes."""
        self.in_a_row.pop(handler.name, None)
        if self.due.pop(handler.name, None) is not None:
            conn.execute(load("close_breaker"), {"handler": handler.name})
            log.warning("breaker closed handler=%s", handler.name)

    def failed(self, conn: Connection, handler: Handler, error: str) -> bool:
        """Count a failure; return whether the handler's breaker is open, and the attempt not to be spent."""
        self.in_a_row[handler.name] += 1
        is_open = handler.name in self.due
        if is_open or self.in_a_row[handler.name] >= BREAK_AFTER:
            names = {"handler": handler.name, "failures": self.in_a_row[handler.name], "error": error}
            conn.execute(load("open_breaker"), {**names, "wait": timedelta(seconds=PROBE_SECONDS)})
            self.due[handler.name] = False
        if handler.name in self.due and not is_open:
            log.error("breaker opened handler=%s failures=%d", handler.name, self.in_a_row[handler.name])
        return is_open
