"""Pauses: sources and types whose events no worker claims for now. The receiver goes on storing them."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from psycopg import Connection
from psycopg.rows import dict_row

from processor import actions
from sql import load

Row = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """What is paused: kind is source or type."""

    kind: str
    name: str

    @classmethod
    def parse(cls, text: str) -> "Target":
        """Return what ``source=twilio`` or ``type=call.ringing`` names. Raises ValueError with what was expected."""
        kind, _, name = text.partition("=")
        if kind not in ("source", "type") or not name:
            raise ValueError(f"expected source=NAME or type=NAME, got {text!r}")
        return cls(kind, name)

    def __str__(self) -> str:
        return f"{self.kind}={self.name}"


def pause(conn: Connection, targets: list[Target], duration: timedelta | None, reason: str) -> None:
    """Pause these from now on, for that long or until they are resumed; one that is paused gets the new end.

    Commits all of them at once. An event in hand is finished.
    """
    with conn.transaction():
        for target in targets:
            names = {"kind": target.kind, "name": target.name, "duration": duration, "reason": reason}
            conn.execute(load("set_pause"), names)
        _note(conn, "pause", targets, reason, {"for_seconds": duration and duration.total_seconds()})


def unknown(conn: Connection, targets: list[Target]) -> list[Target]:
    """Return those that no event is of, as far as the latest 10,000 and the unprocessed ones tell."""
    return [
        target
        for target in targets
        if conn.execute(load("has_target"), {"kind": target.kind, "name": target.name}).fetchone() == (False,)
    ]


def resume(conn: Connection, targets: list[Target], reason: str) -> list[Target]:
    """Let these be claimed again, and return those that were paused. Commits all of them at once."""
    with conn.transaction():
        ended = [
            target
            for target in targets
            if conn.execute(load("end_pause"), {"kind": target.kind, "name": target.name}).rowcount
        ]
        if ended:
            _note(conn, "resume", ended, reason, {})
    return ended


def pauses(conn: Connection) -> list[Row]:
    """Return what is paused, and what was until less than a day ago (ended)."""
    return conn.cursor(row_factory=dict_row).execute(load("list_pauses")).fetchall()


def _note(conn: Connection, verb: str, targets: list[Target], reason: str, more: Row) -> None:
    action = actions.begin(conn, verb, {"of": [str(target) for target in targets], **more}, reason=reason)
    actions.advance(conn, action, 0, ended=True)
