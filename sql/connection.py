"""Connections that notice a database that hangs: one that is frozen, or behind a link that swallows everything.

While a kernel or a proxy at the other end still acknowledges what is sent, no keepalive, no timeout of TCP's and no
statement_timeout ever fires. So who hears nothing for a while asks on another connection whether the server is at
work on the statement. If it is, something that will end keeps it waiting, a lock or a standby, and it is waited for
on; else the connection is closed and the call raises OperationalError, as after any lost connection: whether it was
committed is not known.
"""

import asyncio
import time
from collections.abc import Coroutine, Generator
from typing import Any, Generic, Self, TypeVar

import psycopg
from psycopg import generators, waiting
from psycopg.abc import RV, PQGen
from psycopg.conninfo import make_conninfo
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult

from sql import database, load

C = TypeVar("C", bound=psycopg.AsyncConnection)

PATIENCE = 2.5  # seconds without a byte from the server, after which it is asked
INTERVAL = 0.1  # seconds between two looks at the clock


class _Silence(Exception):
    """Nothing was heard for as long as patience lasts."""


class _Call(Generic[RV]):
    """A call under way: psycopg's generator that makes it, and what that waits for."""

    def __init__(self, steps: PQGen[RV]) -> None:
        self.steps = steps
        self.wanted: waiting.Wait | None = None

    def go_on(self, patience: float) -> Generator[waiting.Wait, "waiting.Ready | int", RV]:
        """Do as psycopg's generator does. Raises _Silence, and goes on where it was when it is called again."""
        until = time.monotonic() + patience
        try:
            self.wanted = self.wanted or next(self.steps)
            while True:
                ready = yield self.wanted
                if ready:
                    until = time.monotonic() + patience
                elif time.monotonic() > until:
                    raise _Silence
                self.wanted = self.steps.send(ready)
        except StopIteration as done:
            result: RV = done.value
            return result


class Connection(psycopg.Connection):
    """A worker's. address: of the one host that it is connected to; asks: whether a silent server is asked."""

    patience = PATIENCE
    address = ""
    asks = True

    @classmethod
    def connect(cls, conninfo: str = "", **options: Any) -> Self:
        """Connect as psycopg does: to the first of several hosts that will do."""
        connection = super().connect(conninfo, **options)
        connection.address = _address(conninfo, connection)
        return connection

    def wait(self, gen: PQGen[RV], interval: float = INTERVAL, timeout: float | None = None) -> RV:
        """Make a call. Raises OperationalError when the server is no longer at work on it, or never was."""
        if timeout is not None:  # somebody waits for notifications
            return super().wait(gen, interval, timeout)
        call = _Call(gen)
        while True:
            try:
                return super().wait(call.go_on(self.patience), interval)
            except _Silence:
                if not self._at_work():
                    self.close()
                    raise _hung(self.patience) from None

    def _at_work(self) -> bool:
        if not self.asks:
            return False
        try:
            with type(self).connect(self.address, **database.CONNECT) as other:
                other.asks = False
                row = other.execute(load("is_at_work"), _sessions(self, other)).fetchone()
        except psycopg.Error:
            return False
        return bool(row and row[0])


class AsyncConnection(psycopg.AsyncConnection):
    """The receiver's. A call that is cancelled ends at once, and its connection with it."""

    patience = PATIENCE
    address = ""
    asks = True

    @classmethod
    async def connect(cls, conninfo: str = "", **options: Any) -> Self:
        """Connect to the host that takes writes: to all at once, so that one that hangs delays nothing."""
        return await _first([cls._connect(host, **options) for host in database.hosts(conninfo)])

    @classmethod
    async def _connect(cls, conninfo: str, **options: Any) -> Self:
        connection = await super().connect(conninfo, **options)
        connection.address = _address(conninfo, connection)
        return connection

    async def wait(self, gen: PQGen[RV], interval: float = INTERVAL, timeout: float | None = None) -> RV:  # noqa: ASYNC109
        """Make a call. Raises OperationalError when the server is no longer at work on it, or never was."""
        if timeout is not None:
            return await super().wait(gen, interval, timeout)
        call = _Call(gen)
        while True:
            try:
                # Not psycopg's own, which on being cancelled waits for the server for up to ten seconds more.
                return await waiting.wait_async(call.go_on(self.patience), self.pgconn.socket, interval)
            except asyncio.CancelledError:
                await self.close()
                raise
            except _Silence:
                if not await self._at_work():
                    await self.close()
                    raise _hung(self.patience) from None

    async def _at_work(self) -> bool:
        if not self.asks:
            return False
        try:
            async with await type(self).connect(self.address, **database.CONNECT) as other:
                other.asks = False
                cursor = await other.execute(load("is_at_work"), _sessions(self, other))
                row = await cursor.fetchone()
        except psycopg.Error:
            return False
        return bool(row and row[0])


def done(pgconn: PGconn) -> PQGen[list[PGresult]]:
    """Wait until what was sent past psycopg's cursors is done, and return what its statements came to.

    A call for wait(). Raises psycopg.Error when one of them failed, or the connection did.
    """
    results: list[PGresult] = yield from generators.execute(pgconn)
    for result in results:
        if result.status == ExecStatus.FATAL_ERROR:
            raise psycopg.errors.error_from_result(result)
    return results


async def _first(attempts: list[Coroutine[Any, Any, C]]) -> C:
    """Return the connection that is made first, and give the other attempts up. Raises what the last one raised."""
    tasks = {asyncio.create_task(attempt) for attempt in attempts}
    left, error = tasks, None
    try:
        while left:
            done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if (error := task.exception()) is None:
                    tasks.discard(task)
                    return task.result()
    finally:
        for task in tasks:
            task.cancel()
            task.add_done_callback(_drop)
    raise error or RuntimeError("no host to connect to")


def _drop(task: asyncio.Task[psycopg.AsyncConnection]) -> None:
    """Close what was made beside the first."""
    if not task.cancelled() and task.exception() is None:
        task.result().pgconn.finish()


def _address(conninfo: str, connection: psycopg.BaseConnection[Any]) -> str:
    """Return how to reach the very server that was reached, where *conninfo* names several."""
    if len(database.hosts(conninfo)) == 1:
        return conninfo
    info = connection.info
    return make_conninfo(conninfo, host=info.host, hostaddr=info.hostaddr, port=info.port)


def _sessions(waiting_one: psycopg.BaseConnection[Any], asker: psycopg.BaseConnection[Any]) -> dict[str, int]:
    return {"backend": waiting_one.info.backend_pid, "own_backend": asker.info.backend_pid}


def _hung(seconds: float) -> psycopg.OperationalError:
    return psycopg.OperationalError(f"no answer for {seconds:g} s, and the server is not at work on one")
