"""What processes take of the machine: processor time and memory, from Linux's /proc."""

import os
from pathlib import Path

import psycopg

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """Return the processor seconds, user and system, of a process, its descendants and those it has buried."""
    return sum(map(_own, tree(pid)))


def _own(pid: int) -> float:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return 0.0  # it ended meanwhile; its parent counts it from now on
    return sum(map(int, stat.rpartition(")")[2].split()[11:15])) / TICKS


def tree(pid: int) -> list[int]:
    """Return *pid* and its living descendants, each behind its parent."""
    found = [pid]
    for one in found:
        try:
            found += map(int, Path(f"/proc/{one}/task/{one}/children").read_text(encoding="ascii").split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def rss(pid: int) -> int:
    """Return the bytes of memory that a process has of its own or shares."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * PAGE


def server_of(dsn: str) -> int | None:
    """Return the pid of the PostgreSQL behind *dsn*, None where it runs on another machine."""
    with psycopg.connect(dsn) as conn:
        backend = Path(f"/proc/{conn.info.backend_pid}")
        local = conn.info.host in ("localhost", "127.0.0.1", "::1") or conn.info.host.startswith("/")
        if not local or not backend.exists() or (backend / "comm").read_text().strip() != "postgres":
            return None
        return int((backend / "stat").read_text().rpartition(")")[2].split()[1])
