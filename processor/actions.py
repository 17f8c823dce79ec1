"""What was done by the commands: who, when, why, to which events, and how far it got."""

import getpass
import os
import socket
from collections.abc import Mapping
from typing import Any

from psycopg import Connection
from psycopg.rows import dict_row

from processor import output
from sql import load

Row = dict[str, Any]


def who() -> str:
    """Return who runs this process: ``user@host``."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container may run as a number without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def begin(
    conn: Connection, verb: str, chosen: Mapping[str, Any], *, reason: str = "", ids: list[int] | None = None
) -> int:
    """Note that a command begins, and return the action's id. Commits, unless it is called in a transaction.

    *chosen* is what it was asked for, without what is None; *ids* are the events it is to change.
    """
    names = {
        "verb": verb,
        "who": who(),
        "reason": reason,
        "chosen": output.json_line({name: value for name, value in chosen.items() if value is not None}),
        "ids": ids or [],
    }
    (action,) = conn.execute(load("begin_action"), names).fetchone() or (0,)
    return int(action)


def advance(conn: Connection, action: int, done: int, *, ended: bool) -> None:
    """Note that so many more events were changed, in their transaction where there is one."""
    conn.execute(load("advance_action"), {"id": action, "done": done, "ended": ended})


def recent(conn: Connection, most: int, event: int | None = None) -> list[Row]:
    """Return the newest actions first, at most so many; only those on one event where it is given."""
    names = {"id": event, "most": most}
    return conn.cursor(row_factory=dict_row).execute(load("list_actions"), names).fetchall()
