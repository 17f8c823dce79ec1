"""Tells the processors that events were stored, so that they need not wait for their interval to be over.

Nothing rests on it: what isn't told is found by the next poll. So it has a connection and a task of its own, and
whatever becomes of them, no delivery waits for it or fails by it.
"""

import asyncio
import logging

import psycopg

from sql import database, load
from sql.connection import AsyncConnection

log = logging.getLogger("receiver")

GAP = 0.01  # seconds between two notifications at least: what is stored meanwhile is told by the next
RETRY = 1.0  # seconds between two attempts to connect


class Wakeup:
    """A task that notifies at once after *stored* is set, unless it did so a moment ago."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.stored = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Connect, in the background."""
        self.task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Disconnect; a call to a database that doesn't answer is given up."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait({self.task}, timeout=1)

    async def _run(self) -> None:
        lost = False
        while True:
            try:
                async with await AsyncConnection.connect(self.dsn, **database.CONNECT) as conn:
                    if lost:
                        log.warning("wake-up recovered")
                        lost = False
                    await self._notify_on(conn)
            except psycopg.Error as error:
                if not lost:
                    log.warning("wake-up lost cause=%s; processors poll", type(error).__name__)
                lost = True
            await asyncio.sleep(RETRY)

    async def _notify_on(self, conn: AsyncConnection) -> None:
        """Notify until the connection is lost, which raises psycopg.Error; what was not told then stays to be told."""
        while True:
            await self.stored.wait()
            self.stored.clear()
            try:
                await conn.execute(load("notify"), {"payload": ""})
            except psycopg.Error:
                self.stored.set()
                raise
            await asyncio.sleep(GAP)
