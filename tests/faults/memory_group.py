"""A control group that limits its members' memory, and has the kernel kill them beyond it; version 1 or 2."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
NUMBERS = count()
EMPTY_SECONDS = 30.0


class NoGroup(Exception):
    """Why there can be none here."""


class Group:
    """Members have *limit* bytes together, and no swap."""

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self.first = path.parent == ROOT / "memory"
        self.members = path / "cgroup.procs"
        (path / ("memory.limit_in_bytes" if self.first else "memory.max")).write_text(str(limit))
        with suppress(OSError):  # where swap is not counted
            swap, most = ("memory.memsw.limit_in_bytes", limit) if self.first else ("memory.swap.max", 0)
            (path / swap).write_text(str(most))

    @property
    def run(self) -> tuple[str, ...]:
        """Words before a command that has it begin as a member."""
        return ("/bin/sh", "-c", 'echo $$ >"$0" && exec "$@"', str(self.members))

    def add(self, *pids: int) -> None:
        """Make processes members; in version 1 what they have already counts for nobody."""
        for pid in pids:
            self.members.write_text(str(pid))

    def peak(self) -> int:
        """Return the most bytes that its members had together."""
        return int((self.path / ("memory.max_usage_in_bytes" if self.first else "memory.peak")).read_text())


@contextmanager
def group(limit: int) -> Iterator[Group]:
    """Make a group, and remove it once its members are gone. Raises NoGroup with the reason."""
    parent = ROOT / "memory" if (ROOT / "memory").is_dir() else ROOT
    path = parent / f"webhook-inbox-{os.getpid()}-{next(NUMBERS)}"
    try:
        path.mkdir()
    except OSError as error:
        raise NoGroup(str(error)) from error
    try:
        try:
            made = Group(path, limit)
        except OSError as error:
            raise NoGroup(f"no controller of memory: {error}") from error
        yield made
    finally:
        until = time.monotonic() + EMPTY_SECONDS
        while (path / "cgroup.procs").read_text() and time.monotonic() < until:
            time.sleep(0.02)
        path.rmdir()
