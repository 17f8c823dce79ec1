"""What the door refused: counted by source, status and cause, told at a bounded rate, added up in the database.

A forger sends as many deliveries as he likes, and one costs a count in memory: no row, no wait, mostly no line. A
cause is one of the fixed texts that the door and the providers' modules refuse with, and holds nothing of a request.
A task of its own adds the counts to the table; while the database is away they stay here. One that was sent, and
whose answer got lost with the connection, is added again, so a count may be too high by it, and never too low.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import Connection
from psycopg.rows import dict_row

from receiver.saver import Saver
from sql import database, load
from sql.connection import AsyncConnection

log = logging.getLogger("receiver")

GAP = 10.0  # seconds between two lines about one source, status and cause
EVERY = 5.0  # seconds between two additions to the table
KEYS_MAX = 200  # sources, statuses and causes told apart; beyond that a cause is OTHER
OTHER = "other"

Key = tuple[str, int, str]  # source, status, cause


@dataclass(slots=True)
class Line:
    """What the log says of one key: when it last did, and how many were refused since. Seconds of the clock."""

    told_at: float = -math.inf
    untold: int = 0


@dataclass(frozen=True, slots=True)
class Count:
    """So many refusals, and when the first and the last of them were. Seconds of the clock."""

    refused: int
    first: float
    last: float

    def plus(self, other: "Count") -> "Count":
        """Return both as one."""
        return Count(self.refused + other.refused, min(self.first, other.first), max(self.last, other.last))


class Refusals:
    """The counts of one receiver. *every*: seconds between two additions; *clock*: seconds that only go forward."""

    def __init__(self, dsn: str, every: float = EVERY, clock: Callable[[], float] = time.monotonic) -> None:
        self.dsn = dsn
        self.clock = clock
        self.lines: dict[Key, Line] = {}
        self.unsaved: dict[Key, Count] = {}
        self.saver = Saver("refusals", every, self._pending, self.save)

    def start(self) -> None:
        """Add counts to the table from now on, in the background."""
        self.saver.start()

    async def stop(self) -> None:
        """Add what is left, if the database takes it now."""
        await self.saver.stop()
        if self.unsaved:
            log.warning("refusals lost count=%d", sum(count.refused for count in self.unsaved.values()))

    def count(self, source: str, status: int, cause: str) -> None:
        """Count one refusal, and log it if nothing was logged of its like within GAP. *cause*: a fixed text."""
        now, key = self.clock(), (source, status, cause)
        if key not in self.lines and len(self.lines) >= KEYS_MAX:
            key = (source, status, OTHER)
        line = self.lines.setdefault(key, Line())
        line.untold += 1
        if now - line.told_at >= GAP:
            _tell(key, line, now)
        self._keep(key, Count(1, now, now))

    async def save(self) -> None:
        """Add the counts to the table; commits. Raises psycopg.Error, and then they stay to be added."""
        taken, self.unsaved = self.unsaved, {}
        try:
            async with await AsyncConnection.connect(self.dsn, **database.CONNECT) as conn:
                await conn.execute(load("add_refusals"), _columns(taken, self.clock()))
                taken = {}
        finally:
            for key, count in taken.items():
                self._keep(key, count)

    def _pending(self, last: bool) -> bool:
        self._tell_held(self.clock(), everything=last)
        return bool(self.unsaved)

    def _tell_held(self, now: float, *, everything: bool) -> None:
        """Log what was held back for GAP by now: a flood that has ended is told, too."""
        for key, line in self.lines.items():
            if line.untold and (everything or now - line.told_at >= GAP):
                _tell(key, line, now)

    def _keep(self, key: Key, more: Count) -> None:
        known = self.unsaved.get(key)
        self.unsaved[key] = known.plus(more) if known else more


def recent(conn: Connection, age: str) -> list[dict[str, Any]]:
    """Return what was refused within *age*, an interval as PostgreSQL reads it: see sql/list_refusals.sql."""
    return conn.cursor(row_factory=dict_row).execute(load("list_refusals"), {"age": age}).fetchall()


def _tell(key: Key, line: Line, now: float) -> None:
    more = f" and {line.untold - 1} more in {now - line.told_at:.0f} s" if line.untold > 1 else ""
    log.warning("delivery refused source=%s status=%d cause=%s%s", *key, more)
    line.told_at, line.untold = now, 0


def _columns(counts: Mapping[Key, Count], now: float) -> dict[str, list[Any]]:
    """Return the parameters of add_refusals. Ages, not times: the database's clock counts."""
    return {
        "sources": [source for source, _, _ in counts],
        "statuses": [status for _, status, _ in counts],
        "causes": [cause for _, _, cause in counts],
        "counts": [count.refused for count in counts.values()],
        "first_ages": [now - count.first for count in counts.values()],
        "last_ages": [now - count.last for count in counts.values()],
    }
