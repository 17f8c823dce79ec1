"""A table with a row for each call, or each message: read and locked, changed as handlers/progress.py has it, written.

Simple statements on purpose: the server plans each anew, and a large one took it ten times as long to plan as to run.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from psycopg import Connection
from psycopg.rows import dict_row

from handlers.models import CallEvent, MessageEvent
from handlers.progress import Change, Known, Ranks, change, filled
from processor import Event

Told = CallEvent | MessageEvent
Row = Mapping[str, Any]
FOLLOWS_STATE = ("state", "occurred_at", "webhook_event_id")


@dataclass(frozen=True)
class Kept:
    """What came of an event. old: the row before, None where there was none; row: as it is now; change: its state's."""

    old: Row | None
    row: Row
    change: Change


@dataclass(frozen=True)
class Rows:
    """A table's rows, and how they are kept.

    key: the columns that name one; facts: those that are filled in as they are told; both are called as in the model.
    also(told, event, old row, moves) returns the columns named by *follows*; moves: whether the state does.
    """

    table: str
    key: tuple[str, ...]
    facts: tuple[str, ...]
    ranks: Ranks
    follows: tuple[str, ...] = ()
    also: Callable[..., dict[str, Any]] = lambda *_, **__: {}

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Return the columns that keep() may change."""
        return (*FOLLOWS_STATE, *self.follows, *self.facts)

    def find(self, told: Told, conn: Connection) -> Row | None:
        """Return the row that is told of, locked until the transaction ends; None where there is none."""
        return conn.cursor(row_factory=dict_row).execute(self._find, self._named(told)).fetchone()

    def keep(self, event: Event, told: Told, old: Row | None, conn: Connection) -> Kept:
        """Write what an event told of the row that find() returned, or make the row."""
        if old is None:
            kept = self._changed(event, told, None)
            if conn.execute(self._make, {**self._named(told), **kept.row}).rowcount == 1:
                return kept
            old = self.find(told, conn)  # made since it was looked for
        kept = self._changed(event, told, old)
        if kept.row != old:
            conn.execute(self._update, {**self._named(told), **kept.row})
        return kept

    def _changed(self, event: Event, told: Told, old: Row | None) -> Kept:
        known = None if old is None else Known(old["state"], old["occurred_at"], old["webhook_event_id"])
        changed = change(self.ranks, known, told.state, told.occurred_at, event.id)
        # The event that brought the state, replayed, is perhaps understood better than before.
        again = known is not None and known.event == event.id and changed == "repeated"
        moves = known is None or changed == "moved" or again
        told_facts = {name: getattr(told, name) for name in self.facts}
        row = {name: None if old is None else old[name] for name in self.columns}
        row |= filled(old, told_facts, self.facts, first=moves)
        if moves:
            row["state"], row["webhook_event_id"] = told.state or "queued", event.id
            row["occurred_at"] = told.occurred_at if told.state else None
        if known and changed == "repeated" and not self.ranks.is_over(known.state):
            # It got this state when the first of the two happened; of two ends the last counts.
            row["occurred_at"] = min(filter(None, (known.occurred_at, told.occurred_at)), default=None)
        row |= self.also(told, event, old, moves=moves)
        return Kept(old, row, changed)

    @cached_property
    def _find(self) -> bytes:
        return f"SELECT {', '.join(self.columns)} FROM {self.table} WHERE {self._is} FOR NO KEY UPDATE".encode()  # noqa: S608

    @cached_property
    def _make(self) -> bytes:
        names = (*self.key, *self.columns)
        values = ", ".join(f"%({name})s" for name in names)
        return f"INSERT INTO {self.table} ({', '.join(names)}) VALUES ({values}) ON CONFLICT DO NOTHING".encode()  # noqa: S608

    @cached_property
    def _update(self) -> bytes:
        columns = ", ".join(f"{name} = %({name})s" for name in self.columns)
        return f"UPDATE {self.table} SET {columns} WHERE {self._is}".encode()  # noqa: S608

    @property
    def _is(self) -> str:
        return f"({', '.join(self.key)}) = ({', '.join(f'%({name})s' for name in self.key)})"

    def _named(self, told: Told) -> dict[str, Any]:
        return {name: getattr(told, name) for name in self.key}
