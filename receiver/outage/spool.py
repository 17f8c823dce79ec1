"""The outage spool: events that the database does not take now, on a local disk until it does.

One SQLite file, its write-ahead log fsynced with each commit: what append returned for is there after a power cut. It
holds rows as sql/insert_event.sql takes them, so that bringing them into the table needs no source's configuration.
Knows no database and no clock. One thread at a time calls it (see thread.py), of one process (see slot.py).
"""

import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from receiver.outage import salvage
from receiver.outage.file import Malformed, connect
from receiver.outage.record import Record, Row, Unreadable, decode, encode

log = logging.getLogger("receiver")

MAX_BYTES = 1024**3
MIN_BYTES = 1024**2
PEEK_BYTES = 8 * 1024**2  # of rows that are read at once
SLACK_PAGES = 4096  # free ones that an empty file may keep
CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
REASON_MAX = 500  # characters


class Failed(Exception):
    """The spool did not do it: it is full, or its disk fails. The message says which, and nothing of a delivery."""


class Spool:
    """One file, open; each call tries again what can't be opened. A malformed one is set aside, and salvaged.

    deliveries, bytes, oldest_at, rejected: how many rows wait, their size, when the first arrived (unix seconds, None
    where none waits), and how many were set aside; kept in memory, to be read from any thread.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.deliveries = self.bytes = self.rejected = 0
        self.oldest_at: float | None = None
        self.done: set[int] = set()  # in the table, and not deleted here, because the disk did not let us
        self.conn: sqlite3.Connection | None = None
        try:
            self._open()
        except Failed as error:
            log.error("spool not opened file=%s cause=%s", path.name, error)

    @property
    def is_open(self) -> bool:
        """Tell whether the file could be opened, so that what waits is known."""
        return self.conn is not None

    def append(self, rows: Iterable[tuple[float, Row, bool]]) -> None:
        """Keep (arrived_at, row, tried) of each, all or, raising Failed, none; they are on the disk on return."""
        values = [(arrived_at, tried, *encode(arrived_at, row)) for arrived_at, row, tried in rows]
        with self._writing() as conn:
            conn.executemany(
                "INSERT INTO records (arrived_at, tried, fields, body, digest) VALUES (?, ?, ?, ?, ?)", values
            )
        self._counted(len(values), sum(len(fields) + len(body) for _, _, fields, body, _ in values))

    def peek(self, most: int) -> list[Record]:
        """Return the oldest ones, in order; those that can't be read are set aside instead. Raises Failed."""
        records: list[Record] = []
        broken: dict[int, str] = {}
        with self._reading() as conn:
            attempted = conn.execute("SELECT coalesce(max(up_to), 0) FROM attempted").fetchone()[0]
            cursor = conn.execute(
                "SELECT id, arrived_at, tried, fields, body, digest FROM records WHERE id > ? ORDER BY id LIMIT ?",
                (max(self.done, default=0), most),
            )
            for number, arrived_at, tried, fields, body, digest in cursor:
                try:
                    row = decode(arrived_at, fields, body, digest)
                except Unreadable as error:
                    broken[number] = str(error)
                    continue
                size = len(fields) + len(body)
                records.append(Record(number, arrived_at, bool(tried) or number <= attempted, row, size))
                if sum(record.size for record in records) >= PEEK_BYTES:
                    break
        if broken:
            self.reject(broken)
        return records

    def attempt(self, up_to: int) -> None:
        """Keep that the table is about to be given every record up to this id. Raises Failed."""
        with self._writing() as conn:
            conn.execute("DELETE FROM attempted")
            conn.execute("INSERT INTO attempted VALUES (?)", (up_to,))

    def delete(self, records: Iterable[Record]) -> None:
        """Forget these, which are in the table. Raises Failed, and even then peek returns them no more."""
        gone = [record for record in records if record.id not in self.done]
        self.done.update(record.id for record in gone)
        try:
            if self.done:
                with self._writing() as conn:
                    conn.executemany("DELETE FROM records WHERE id = ?", [(number,) for number in self.done])
                self.done.clear()
        finally:
            self._counted(-len(gone), -sum(record.size for record in gone))
        if self.is_open and not self.deliveries:
            self._shrink()

    def reject(self, reasons: Mapping[int, str]) -> None:
        """Set these aside with the reason, bytes and all. Raises Failed."""
        sizes = []
        with self._writing() as conn:
            for number, reason in reasons.items():
                found = conn.execute(
                    "SELECT arrived_at, fields, body, digest FROM records WHERE id = ?", (number,)
                ).fetchone()
                # Deleted first: a full file has room for it then.
                conn.execute("DELETE FROM records WHERE id = ?", (number,))
                conn.execute(
                    "INSERT INTO rejected VALUES (?, ?, ?, ?, ?, strftime('%s', 'now'), ?)",
                    (number, *found, reason[:REASON_MAX]),
                )
                sizes.append(len(found[1]) + len(found[2]))
        self.rejected += len(sizes)
        self._counted(-len(sizes), -sum(sizes))
        for number, reason in reasons.items():
            log.error("spooled delivery rejected spool_id=%d cause=%s; see `receiver spool show`", number, reason)

    def restore(self) -> None:
        """Have what was set aside wait again, behind the others. Raises Failed."""
        with self._writing() as conn:
            conn.execute(
                "INSERT INTO records (arrived_at, tried, fields, body, digest)"
                " SELECT arrived_at, 1, fields, body, digest FROM rejected ORDER BY id"
            )
            conn.execute("DELETE FROM rejected")
        self._count()

    def close(self) -> None:
        """Close the file; what waits stays in it."""
        if self.conn is not None:
            with suppress(sqlite3.Error):
                self.conn.close()
            self.conn = None

    def _open(self, *, anew: bool = False) -> None:
        tail = salvage.frames(self.path)
        try:
            self.conn = connect(self.path, self.max_bytes)
            self._salvage()
            self._count()
            kept = self.conn.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]
        except (sqlite3.Error, OSError) as error:
            self.close()
            if anew or not _is_corrupt(error):
                raise Failed(_why(error)) from error
            aside = salvage.set_aside(self.path)
            log.error("spool malformed file=%s; set aside as %s", self.path.name, aside.name)
            self._open(anew=True)
            return
        if tail > kept:
            log.warning(
                "spool tail dropped file=%s pages=%d; it was torn, never acknowledged", self.path.name, tail - kept
            )

    def _salvage(self) -> None:
        """Take over what is readable of malformed files, also of those that a kill kept us from before."""
        assert self.conn is not None  # noqa: S101 - called by _open
        for aside in salvage.waiting(self.path):
            with self._transaction(self.conn):
                found = salvage.copy(aside, self.conn)
            log.error("spool salvaged records=%d of=%s", found, salvage.finish(aside).name)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection; what SQLite raises is Failed. A malformed file is closed, and set aside by the next."""
        if self.conn is None:
            self._open()
        assert self.conn is not None  # noqa: S101 - _open raises Failed, or there is one
        try:
            yield self.conn
        except sqlite3.Error as error:
            if _is_corrupt(error):
                self.close()
            raise Failed(_why(error)) from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """As _reading, in a transaction that is on the disk at the block's end."""
        with self._reading() as conn, self._transaction(conn):
            yield conn

    @contextmanager
    def _transaction(self, conn: sqlite3.Connection) -> Iterator[None]:
        try:
            conn.execute("BEGIN IMMEDIATE")
            yield
            conn.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                conn.execute("ROLLBACK")
            raise

    def _counted(self, more: int, size: int) -> None:
        self.deliveries += more
        self.bytes += size
        self._find_oldest()

    def _count(self) -> None:
        assert self.conn is not None  # noqa: S101 - called by _open
        self.deliveries, self.bytes = self.conn.execute(
            "SELECT count(*), coalesce(sum(length(fields) + length(body)), 0) FROM records"
        ).fetchone()
        (self.rejected,) = self.conn.execute("SELECT count(*) FROM rejected").fetchone()
        self.done.clear()
        self._find_oldest()

    def _find_oldest(self) -> None:
        with suppress(sqlite3.Error):  # then it stays what it was
            found = (
                self.conn
                and self.conn.execute(
                    "SELECT arrived_at FROM records WHERE id > ? ORDER BY id LIMIT 1", (max(self.done, default=0),)
                ).fetchone()
            )
            self.oldest_at = found[0] if found else None

    def _shrink(self) -> None:
        """Leave no bodies in the log of an empty spool, and give the disk its space back after a long outage."""
        with suppress(sqlite3.Error):
            assert self.conn is not None  # noqa: S101 - called after a commit
            if self.conn.execute("PRAGMA freelist_count").fetchone()[0] > SLACK_PAGES:
                self.conn.execute("VACUUM")
            self.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _is_corrupt(error: Exception) -> bool:
    return isinstance(error, Malformed) or getattr(error, "sqlite_errorcode", 0) & 0xFF in CORRUPT


def _why(error: Exception) -> str:
    """Return what is wrong, in words that hold nothing of a row."""
    if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
        return "the spool or its disk is full; see SPOOL_MAX_BYTES"
    return f"the spool failed ({error})"
