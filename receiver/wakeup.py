"""Tells the processors that events were stored, so that they need not wait for their interval to be over.

Nothing rests on it: what isn't told is found by the next poll. So it has a connection and a task of its own, and
whatever becomes of them, no delivery waits for it or fails by it.
"""

import asyncio
import logging
from contextlib import suppress

import psycopg
from psycopg import AsyncClientCursor, pq

from sql import database, load
from sql.connection import AsyncConnection, done

log = logging.getLogger("receiver")

GAP = 0.001  # seconds between two notifications at least: what is stored meanwhile is told by the next
GAP_MOST = 0.016  # and where something always is: each time twice as long
RETRY = 1.0  # seconds between two attempts to connect


class Wakeup:
    """Notifies when told or when *stored* is set: at once, unless it did so a moment ago.

    idle: a connection with nothing under way, on which tell() sends by itself: the task would come to it only after
    whatever the event loop has to do first, and psycopg's cursor takes longer than the server.
    """

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.stored = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.idle: pq.abc.PGconn | None = None
        self.statement = b""

    def start(self) -> None:
        """Connect, in the background."""
        self.task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Disconnect; a call to a database that doesn't answer is given up."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait({self.task}, timeout=1)

    def tell(self) -> None:
        """Have the processors told of what has just been stored. Neither waits nor raises."""
        self.stored.set()
        self._send()

    def _send(self) -> None:
        if self.idle is not None:
            pgconn, self.idle = self.idle, None
            self.stored.clear()  # set from here on, it is for the next; who waits for it is awake all the same
            with suppress(psycopg.Error):  # whoever waits for the answer learns of it, too
                pgconn.send_query(self.statement)

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
                    log.warning("wake-up lost cause=%s; processors poll", database.cause(error))
                lost = True
            await asyncio.sleep(RETRY)

    async def _notify_on(self, conn: AsyncConnection) -> None:
        """Notify until the connection is lost, which raises psycopg.Error; what was not told then stays to be told."""
        self.statement = AsyncClientCursor(conn).mogrify(load("notify"), {"payload": ""}).encode()
        gap = GAP
        try:
            while True:
                gap = min(2 * gap, GAP_MOST) if self.stored.is_set() else GAP
                self.idle = conn.pgconn
                await self.stored.wait()
                self._send()
                try:
                    if not await conn.wait(done(conn.pgconn)):
                        raise psycopg.OperationalError("nothing sent")
                except psycopg.Error:
                    self.stored.set()
                    raise
                await asyncio.sleep(gap)
        finally:
            self.idle = None
