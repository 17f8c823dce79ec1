"""What becomes of a spool's file that is damaged: its torn tail is counted, its readable records are copied."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

HEADER, FRAME = 32, 24  # bytes before the first frame of SQLite's write-ahead log, and before each frame's page
SALTS = slice(16, 24)  # of the log's header; each frame of this round has them at 8
MALFORMED, SALVAGED = "malformed", "salvaged"
# 1: tried, since it may be in the table.
FORWARD = "SELECT id, arrived_at, 1, fields, body, digest FROM records ORDER BY id"
BACKWARD = "SELECT id, arrived_at, 1, fields, body, digest FROM records WHERE id > ? ORDER BY id DESC"
ONE = "SELECT id, arrived_at, 1, fields, body, digest FROM records WHERE id = ?"


def frames(path: Path) -> int:
    """Return how many pages the file's write-ahead log was given since it last began anew, the last one maybe torn.

    SQLite reads them up to the last commit whose checksums are right. Source: sqlite.org/fileformat.html, 4.1 and 4.2.
    """
    try:
        with path.with_name(f"{path.name}-wal").open("rb") as wal:
            header = wal.read(HEADER)
            size = FRAME + int.from_bytes(header[8:12], "big")
            found = 0
            while wal.read(size)[8:16] == header[SALTS] != b"":
                found += 1
            return found
    except OSError:
        return 0


def set_aside(path: Path) -> Path:
    """Give the malformed file another name, with its log; return that."""
    aside = path.with_name(f"{path.name}.{MALFORMED}-{time.time_ns()}")
    with suppress(FileNotFoundError):
        path.with_name(f"{path.name}-wal").rename(aside.with_name(f"{aside.name}-wal"))
    path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
    path.rename(aside)
    return aside


def waiting(path: Path) -> list[Path]:
    """Return the malformed files that are to be salvaged, oldest first."""
    return sorted(one for one in path.parent.glob(f"{path.name}.{MALFORMED}-*") if one.name[-1].isdigit())


def copy(aside: Path, conn: sqlite3.Connection) -> int:
    """Add to *conn*, within its transaction, the records of *aside* that can be read; return how many."""
    found = 0
    with closing(sqlite3.connect(aside, isolation_level=None)) as damaged:
        for row in _readable(damaged):
            conn.execute(
                "INSERT OR IGNORE INTO records (id, arrived_at, tried, fields, body, digest) VALUES (?, ?, ?, ?, ?, ?)",
                row,
            )
            found += 1
    return found


def finish(aside: Path) -> Path:
    """Have a salvaged file known for one; return its new name."""
    salvaged = aside.with_name(aside.name.replace(MALFORMED, SALVAGED))
    aside.rename(salvaged)
    return salvaged


def _readable(damaged: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    """Yield what can be read from the front; past the first damage, from the back; and id by id what lies between."""
    low = high = 0
    try:
        for row in damaged.execute(FORWARD):
            low = row[0]
            yield row
    except sqlite3.DatabaseError:
        high = low + 1
    else:
        return
    with suppress(sqlite3.DatabaseError):
        for row in damaged.execute(BACKWARD, (low,)):
            high = row[0]
            yield row
    for number in range(low + 1, high):
        with suppress(sqlite3.DatabaseError):
            yield from damaged.execute(ONE, (number,))
