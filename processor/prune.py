"""Retention: processed events are deleted after some time, and their bodies earlier, while traffic goes on.

A deleted event leaves its key, a tombstone, so that a captured request sent again is not an event again. What is not
processed, or dead, is never touched. The walk over the ids takes small steps, each its own commit; what somebody has
locked is left to the next prune.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta

from psycopg import Connection
from psycopg.rows import class_row

from processor import actions, operations, output
from sql import load

LOOK = 10_000  # events a step looks at: milliseconds, and no lock
CHANGE = 500  # events a commit deletes or empties: some tens of milliseconds


@dataclass(frozen=True)
class Ages:
    """How long processed events are kept whole, how long at all, and how long their keys after that; None: for ever."""

    events: timedelta | None = None
    bodies: timedelta | None = None
    tombstones: timedelta | None = None


@dataclass
class Removed:
    """What went: events, bodies of events that are kept, and keys of events that had gone before."""

    events: int = 0
    bodies: int = 0
    tombstones: int = 0


@dataclass(frozen=True)
class Step:
    """One look: the last id looked at (None at the end), and the ids to change (None without any)."""

    last: int | None
    ids: list[int] | None


@dataclass
class Prune:
    """One prune of events of these ages; removed: so far. stopping ends it after the commit in hand."""

    ages: Ages
    stopping: threading.Event = field(default_factory=threading.Event)
    removed: Removed = field(default_factory=Removed)

    def run(self, conn: Connection, within: timedelta | None = None) -> bool:
        """Delete and empty what is old enough; return whether it came to the end. Commits every CHANGE events.

        With *within*, nothing is done where a prune began so lately, here or on another machine. Events go first:
        their bodies need not be emptied. Between two commits it rests as long as the last took.
        """
        action = self._begin(conn, within)
        if action is None:
            return True
        now = operations.clock(conn)
        if self.ages.events:
            for changed in self._walk(conn, "prune_events", now - self.ages.events, action, bodies=False):
                self.removed.events += changed
            for statement in ("prune_actions", "prune_refusals", "prune_duplicates", "prune_quarantine"):
                conn.execute(load(statement), {"before": now - self.ages.events})
        if self.ages.bodies:
            for changed in self._walk(conn, "remove_bodies", now - self.ages.bodies, action, bodies=True):
                self.removed.bodies += changed
        if self.ages.tombstones:
            self._forget(conn, now - self.ages.tombstones)
        if self.stopping.is_set():
            return False
        actions.advance(conn, action, 0, ended=True)
        return True

    def _forget(self, conn: Connection, before: datetime) -> None:
        """Delete tombstones of that age; commits every LOOK of them."""
        names, forgotten = {"before": before, "most": LOOK}, LOOK
        while forgotten == LOOK and not self.stopping.is_set():
            forgotten = conn.execute(load("prune_tombstones"), names).rowcount
            self.removed.tombstones += forgotten

    def _begin(self, conn: Connection, within: timedelta | None) -> int | None:
        chosen = output.json_line({f"{name}_older_than": age for name, age in asdict(self.ages).items() if age})
        with conn.transaction():
            conn.execute(load("lock_prune"))
            names = {"who": actions.who(), "chosen": chosen, "within": within}
            row = conn.execute(load("begin_prune"), names).fetchone()
        return int(row[0]) if row else None

    def _walk(self, conn: Connection, statement: str, before: datetime, action: int, *, bodies: bool) -> Iterator[int]:
        """Change what was processed before that time; yield how many events each commit has changed."""
        after: int | None = 0
        while after is not None and not self.stopping.is_set():
            step = look(conn, after, before, bodies=bodies)
            after, ids = step.last, step.ids or []
            for start in range(0, len(ids), CHANGE):
                if self.stopping.is_set():
                    return
                began = time.monotonic()
                with conn.transaction():
                    names = {"ids": ids[start : start + CHANGE], "before": before}
                    (changed,) = conn.execute(load(statement), names).fetchone() or (0,)
                    actions.advance(conn, action, changed, ended=False)
                yield changed
                self.stopping.wait(time.monotonic() - began)


def look(conn: Connection, after: int, before: datetime, *, bodies: bool) -> Step:
    """Look at the next LOOK events for what was processed before that time."""
    names = {"after": after, "before": before, "most": LOOK, "bodies": bodies}
    step = conn.cursor(row_factory=class_row(Step)).execute(load("find_prunable"), names).fetchone()
    return step or Step(None, None)


def count(conn: Connection, ages: Ages) -> Removed:
    """Return what a prune would remove now. Reads the whole history that is old enough."""
    now = operations.clock(conn)
    names = {
        "before": ages.events and now - ages.events,
        "bodies_before": ages.bodies and now - ages.bodies,
    }
    removed = conn.cursor(row_factory=class_row(Removed)).execute(load("count_prunable"), names).fetchone() or Removed()
    if ages.tombstones:
        (removed.tombstones,) = conn.execute(
            load("count_tombstones"), {"before": now - ages.tombstones}
        ).fetchone() or (0,)
    return removed
