"""A worker's way to the database, and how it says there what it is about to run."""

import os
import socket
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass

import psycopg
from psycopg import Connection

from processor.event import Event
from sql import load

WORKER = f"{socket.gethostname()}:{os.getpid()}"


@dataclass(frozen=True)
class Session:
    """A worker's way to the database, until one of its connections is lost.

    conn: for the batch's transaction. control: to say, committed, what is about to run while that is open;
    None: crashes are not accounted for. run_id: the number under which it is said.
    """

    conn: Connection
    control: Connection | None
    run_id: int

    @classmethod
    def open(cls, connect: Callable[[], Connection]) -> "Session":
        """Connect twice, and take a number for the runs. Raises psycopg.Error, and then leaves nothing open."""
        with ExitStack() as opened:
            conn = opened.enter_context(closing(connect()))
            control = opened.enter_context(closing(connect()))
            session = cls(conn, control, next_run(conn))
            opened.pop_all()
        return session

    def close(self) -> None:
        """Close both connections; what they had not committed is rolled back."""
        self.conn.close()
        if self.control:
            self.control.close()

    def begin(self, events: list[Event]) -> None:
        """Commit that these events are about to run."""
        if self.control:
            names = {"run_id": self.run_id, "worker": WORKER, "ids": [event.id for event in events]}
            self.control.execute(load("begin_run"), names)

    def give_up(self) -> None:
        """Say that the run ended without anybody's death, before its transaction is rolled back."""
        if self.control and not self.control.closed:
            with suppress(psycopg.Error):  # then it is settled as if we had died
                self.control.execute(load("end_run"), {"run_id": self.run_id})


def next_run(conn: Connection) -> int:
    """Return a number that no other worker's runs have."""
    (number,) = conn.execute(load("next_run")).fetchone() or (0,)
    return int(number)
