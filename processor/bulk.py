"""A change of many events: chunk by chunk, each committed, no faster than asked, until done or told to stop."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from psycopg import Connection

from processor import actions

CHUNK = 1000  # events a commit in bulk changes, so that no worker waits long for a row

Change = Callable[[Connection, list[int]], int]


@dataclass
class Bulk:
    """One change of these events by *change*, which returns how many of its ids it changed, noted as *action*.

    per_second: events a second at most; None: no limit. stopping: ends it after the chunk in hand.
    told: is called with the events looked at so far, after each chunk. done: how many were changed.
    last: the greatest id looked at, 0 before the first.
    """

    change: Change
    ids: list[int]
    action: int
    per_second: float | None = None
    stopping: threading.Event = field(default_factory=threading.Event)
    told: Callable[[int], None] = lambda _: None
    done: int = 0
    last: int = 0

    def run(self, conn: Connection) -> bool:
        """Change them in the order of their ids; return whether all were looked at. Commits every chunk."""
        ids = sorted(self.ids)
        size = CHUNK if self.per_second is None else max(1, min(CHUNK, round(self.per_second)))
        began = time.monotonic()
        for start in range(0, len(ids), size):
            if self.per_second is not None:
                self.stopping.wait(max(0.0, began + start / self.per_second - time.monotonic()))
            if self.stopping.is_set():
                return False
            chunk = ids[start : start + size]
            with conn.transaction():
                changed = self.change(conn, chunk)
                actions.advance(conn, self.action, changed, ended=start + size >= len(ids))
            self.done += changed
            self.last = chunk[-1]
            self.told(start + len(chunk))
        return True
