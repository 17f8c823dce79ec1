"""Brings what waits in the spool into the table, in order, as soon as the database is back, and finds out that it is.

A record is deleted after its row's commit. Killed in between, it is brought again: its key finds the row. When nothing
waits in its own spool, it looks for those of receivers on this host that have died.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import psycopg

from receiver.insert import Saved, Unavailable
from receiver.metrics import Metrics
from receiver.outage.bring import bring_each
from receiver.outage.record import Record
from receiver.outage.slot import abandoned, address_of
from receiver.outage.spool import Failed, Spool
from receiver.outage.thread import SpoolThread
from sql import database, load
from sql.connection import AsyncConnection

log = logging.getLogger("receiver")

BATCH = 200  # rows a transaction at most
RATE = 3000.0  # rows a second at most: more than one receiver takes, and less than the database
PROBE = 0.5  # seconds between two attempts at a database that is away
LOOK = 5.0  # seconds between two looks for the spools of the dead
HOLD = 0.5  # seconds that deliveries wait at most for the last of the spool to be brought
TRIES = 3  # of a row that the database refuses


class Drain:
    """A task. away: the last attempt at the database failed. due: set it when something was spooled."""

    def __init__(self, dsn: str, spool: SpoolThread, stored: asyncio.Event, metrics: Metrics) -> None:
        self.dsn = dsn
        self.spool = spool
        self.stored = stored  # wakes the processors
        self.metrics = metrics
        self.away = False
        self.due = asyncio.Event()
        self.passed = asyncio.Event()  # not set while the last of the spool are brought
        self.passed.set()
        self.refused: dict[tuple[Path, int], int] = {}
        self.empty: dict[Path, tuple[float, ...]] = {}  # files of the dead, when written to; nothing waited in them
        self.fault = ""  # that was told last
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Drain from now on, in the background, what is there already at once."""
        self.due.set()
        self.task = asyncio.create_task(self._run())

    async def once(self) -> int:
        """Bring everything now; return how many events. Raises psycopg.Error, Unavailable, Failed."""
        async with await AsyncConnection.connect(self.dsn, **database.CONNECT) as conn:
            return await self._drain(conn, self.spool)

    async def stop(self) -> None:
        """Stop; what is not deleted by then stays."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait({self.task}, timeout=2)

    async def pass_by(self) -> None:
        """While the last of the spool are brought, wait until they are, or for HOLD.

        Else there would always be one more behind them where deliveries come faster than the disk is.
        """
        with suppress(TimeoutError):
            await asyncio.wait_for(self.passed.wait(), HOLD)

    def lost(self, cause: str) -> None:
        """Take the database for away, until it has taken something again."""
        if not self.away:
            log.error("database away: spooling deliveries cause=%s", cause)
        self.away = True
        self.due.set()

    async def _run(self) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.due.wait(), LOOK)
            self.due.clear()
            try:
                # Who knows what waits in a file that could not be opened.
                if self.away or not self.spool.empty or not self.spool.spool.is_open:
                    await self._drain_own()
                await self._adopt()
                self.fault = ""
            except Exception as error:  # noqa: BLE001 - a drain that ended would have everything spooled for ever
                self._tell(error)
                await asyncio.sleep(PROBE)
                if self.away or not self.spool.empty:
                    self.due.set()

    async def _drain_own(self) -> None:
        async with await AsyncConnection.connect(self.dsn, **database.CONNECT) as conn:
            if self.spool.empty:  # nobody's delivery is lost by it, so ask before one is
                await conn.execute(load("schema_version"))
                self._back(0, 0)
            began = time.monotonic()
            try:
                drained = await self._drain(conn, self.spool, last=self.passed.clear)
            except Failed:  # the database may be there, whatever the spool's disk does
                await conn.execute(load("schema_version"))
                self._back(0, self.spool.spool.deliveries)
                raise
            finally:
                self.passed.set()
            if drained:
                log.warning("spool drained events=%d seconds=%.1f", drained, time.monotonic() - began)

    async def _drain(self, conn: AsyncConnection, spool: SpoolThread, last: Callable[[], None] = lambda: None) -> int:
        """Bring everything, oldest first; return how many. Raises as insert does, Failed.

        Calls *last* before what may be the last batch.
        """
        drained = 0
        with suppress(Failed):  # a full disk keeps from the table nothing that can be read
            await spool.call(spool.spool.delete, [])  # those that could not be deleted when they were brought
        while records := await spool.call(spool.spool.peek, BATCH):
            if spool is not self.spool and self.due.is_set():
                break  # first comes what is our own
            began = time.monotonic()
            try:
                await spool.call(spool.spool.attempt, records[-1].id)
            except Failed:
                if spool is not self.spool:
                    raise  # it would be brought again with each look
                # On a full disk, after a kill, a repeat may be counted where there was none.
            suspects = {number for path, number in self.refused if path == spool.spool.path}
            saved, refused = await bring_each(conn, records, suspects)
            if saved:
                self.stored.set()
                self._told(saved)
            self._back(len(saved), spool.spool.deliveries)
            drained += len(saved)
            await spool.call(spool.spool.delete, [record for record, _ in saved])
            await self._reject(spool, refused)
            if not refused and spool.spool.deliveries <= BATCH:
                last()
            least = len(records) / RATE if saved else PROBE
            await asyncio.sleep(max(0.0, least - (time.monotonic() - began)))
        return drained

    async def _reject(self, spool: SpoolThread, refused: dict[int, str]) -> None:
        """Count the tries of what the database refused, and set aside what has had enough of them."""
        finished = {}
        for number, cause in refused.items():
            key = (spool.spool.path, number)
            self.refused[key] = self.refused.get(key, 0) + 1
            if self.refused[key] >= TRIES:
                finished[number] = cause
        if finished:
            await spool.call(spool.spool.reject, finished)
            self.metrics.count("spool_rejected_total", len(finished))
            for number in finished:
                del self.refused[spool.spool.path, number]

    async def _adopt(self) -> None:
        """Drain the spools of this database's receivers that are gone; one that is empty is not looked into twice."""
        failed = None
        for slot in abandoned(self.spool.spool.path.parent, address_of(self.dsn)):
            orphan = None
            try:
                if self.empty.get(slot.path) == _ages(slot.path):
                    continue
                orphan = SpoolThread(await asyncio.to_thread(Spool, slot.path, self.spool.spool.max_bytes))
                if not orphan.empty:
                    log.warning("spool adopted file=%s events=%d", slot.path.name, orphan.spool.deliveries)
                    async with await AsyncConnection.connect(self.dsn, **database.CONNECT) as conn:
                        drained = await self._drain(conn, orphan)
                    log.warning("spool drained file=%s events=%d", slot.path.name, drained)
            except Failed as error:
                failed = error  # the others' turn all the same
            finally:
                if orphan:
                    await orphan.close()
                    if orphan.empty:
                        self.empty[slot.path] = _ages(slot.path)
                slot.free()
        if failed:
            raise failed

    def _back(self, drained: int, waiting: int) -> None:
        if self.away:
            log.warning("database back: drained=%d waiting=%d", drained, waiting - drained)
        self.away = False

    def _told(self, saved: Sequence[tuple[Record, Saved]]) -> None:
        self.metrics.count("drained_total", len(saved))
        for record, one in saved:
            word = "repeated" if one.duplicate else "stored"
            log.info(
                "spooled delivery %s source=%s type=%s id=%s spool_id=%d",
                word, record.row["source"], record.row["event_type"], one.id, record.id,
            )  # fmt: skip

    def _tell(self, error: Exception) -> None:
        """Log what is in the way, once for each kind."""
        told = error if isinstance(error, (Failed, Unavailable)) else getattr(error, "sqlstate", None) or ""
        fault = f"{type(error).__name__} {told}".rstrip()
        cause = database.cause(error) if isinstance(error, psycopg.Error) else fault
        if fault != self.fault:
            log.warning("spool not drained cause=%s", cause)
        self.fault = fault
        if not isinstance(error, (Failed, Unavailable)) and not self.spool.empty:
            self.lost(cause)


def _ages(path: Path) -> tuple[float, ...]:
    """Return when the file and its log were last written to."""
    files = (path, path.with_name(f"{path.name}-wal"))
    return tuple(file.stat().st_mtime if file.exists() else 0.0 for file in files)
