"""A PostgreSQL whose data lie on a volume, and the end of whole process trees: what a power cut takes away."""

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psycopg

from processor import migrations, postgres
from tests.faults.volume import Volume

# Small and frequent, so that a run of seconds meets a checkpoint and its WAL fits a small volume.
SETTINGS = ("--checkpoint_timeout=30s", "--max_wal_size=64MB", "--min_wal_size=32MB")
FREEZE_SECONDS = 30.0


class Database:
    """A server on *volume*, with our schema, until its block is left; *settings* are of postgres, and win."""

    def __init__(self, volume: Volume, settings: Sequence[str] = ()) -> None:
        self.volume = volume
        self.settings = (*SETTINGS, *settings)
        self.server: postgres.Server | None = None
        self.dsn = self.start()
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            migrations.migrate(conn)
        volume.sync()

    def start(self) -> str:
        """Start it, after a crash too, where it listened before. Returns its DSN."""
        self.server = postgres.start(self.volume.path / "data", settings=self.settings)
        return self.server.dsn

    def stop(self) -> None:
        """Stop it as an operator does."""
        if self.server:
            self.server.stop()
        self.server = None

    def kill(self) -> None:
        """Kill -9 the server and all its processes."""
        if self.server:
            kill_tree(self.server.pid)
        self.stop()

    def has_ended(self) -> bool:
        """Tell whether the server ended by itself."""
        return self.server is None or state(Path(f"/proc/{self.server.pid}")) in "ZX"


def freeze(pid: int) -> None:
    """Stop a process's threads where they are: what it has not said by now it never says.

    Before a cut, not after it: a sync that is under way while ext4 shuts down may return as if it had been done.
    """
    os.kill(pid, signal.SIGSTOP)
    until = time.monotonic() + FREEZE_SECONDS
    while not all(state(task) in "TtDZX" for task in Path(f"/proc/{pid}/task").iterdir()):
        if time.monotonic() > until:
            raise TimeoutError(f"process {pid}: not stopped within {FREEZE_SECONDS:g} s")
        time.sleep(0.001)


def kill_tree(pid: int) -> None:
    """Kill -9 a process and its descendants; stopped first, so that it starts no more of them."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        for child in children(pid):
            kill_tree(child)
        os.kill(pid, signal.SIGKILL)


def children(pid: int) -> list[int]:
    """Return the ids of a process's children."""
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def state(process: Path) -> str:
    """Return the letter that /proc has for a process or a thread of it; X: it is gone."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"
