"""How `receiver run` serves: accepts what there is room for, and ends without failing anybody.

When all connections are taken, the newest gets the place of one that waits for its client: who is slow loses, who
sends a request is served. uvicorn has no such limits, nor deadlines; docs/http.md has the comparison.
"""

import asyncio
import errno
import logging
import os
import resource
import signal
import socket
import time
from collections.abc import Callable
from functools import partial

from starlette.applications import Starlette

from receiver.connection import Connection, Doing, House, Limits
from receiver.listeners import Handover

log = logging.getLogger("receiver")

RESERVE = 64  # files for the database, the log and the like
FINISH = 15.0  # seconds for requests under way at the end: to arrive, to be stored, to be answered
EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Server:
    """Serves one app on these listening sockets, which it closes at its end."""

    def __init__(self, app: Starlette, listeners: list[socket.socket], limits: Limits | None = None) -> None:
        self.app = app
        self.listeners = listeners
        limits = limits or Limits()
        self.house = House(app, limits, app.state.refused)
        self.house.full = self._cut_largest
        self.room = min(limits.connections, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVE)
        self.open: dict[Connection, asyncio.Task[None]] = {}
        self.ended = asyncio.Event()  # a connection has, since this was cleared
        self.stopping = asyncio.Event()
        self.drain = 0.0
        self.told_at = -60.0

    async def serve(self, started: Callable[[], None] = lambda: None) -> None:
        """Serve until stop(). Calls *started* when it accepts."""
        async with self.app.router.lifespan_context(self.app):
            accepting = [asyncio.create_task(self._accept(listener)) for listener in self.listeners]
            started()
            await self.stopping.wait()
            for task in accepting:
                task.cancel()
            await asyncio.wait(accepting)
            await self._end()

    def stop(self, drain: float) -> None:
        """Accept no more; idle connections may carry one more request each for *drain* seconds."""
        self.drain = drain
        self.app.state.draining = self.house.draining = True
        self.stopping.set()

    async def _accept(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        while True:
            while len(self.open) >= self.room:
                self._cut_slowest()
                self.ended.clear()
                await self.ended.wait()
            try:
                accepted, _ = await asyncio.get_running_loop().sock_accept(listener)
            except OSError as error:
                # Of a connection that broke off in the queue, or out of files: then those that end make room.
                if error.errno in EXHAUSTED:
                    self._tell("out of files or memory")
                    self._cut_slowest()
                    await asyncio.sleep(0.1)
            else:
                self._begin(accepted)

    def _begin(self, accepted: socket.socket) -> None:
        connection = Connection(self.house, accepted)
        self.open[connection] = task = asyncio.create_task(connection.run())

        def end(_task: asyncio.Task[None]) -> None:
            del self.open[connection]
            self.ended.set()

        task.add_done_callback(end)

    def _cut_slowest(self) -> None:
        """Make room: of those that wait for their client the oldest, rather one that was never answered."""
        waiting = [one for one in self.open if one.doing is not Doing.AT_WORK]
        if waiting:
            self._tell(f"all {len(self.open)} connections are taken")
            min(waiting, key=lambda one: (one.doing is not Doing.ENDING, one.answers > 0)).cut()

    def _cut_largest(self) -> None:
        self._tell("unfinished bodies hold too much memory")
        max((one for one in self.open if one.doing is Doing.RECEIVING), key=lambda one: one.held).cut()

    def _tell(self, cause: str) -> None:
        if time.monotonic() - self.told_at >= 10:
            self.told_at = time.monotonic()
            log.warning("connections cut cause=%s", cause)

    async def _end(self) -> None:
        """Answer who is there already, then end."""
        for listener in self.listeners:
            self._accept_queued(listener)
            listener.close()
        log.info("draining connections=%d", len(self.open))
        await self._wait(self.drain)
        for connection in self.open:
            if connection.doing is Doing.WAITING:
                connection.cut()
        await self._wait(FINISH)
        for task in self.open.values():
            task.cancel()
        await self._wait(1)

    def _accept_queued(self, listener: socket.socket) -> None:
        """Take what the kernel has accepted for us: it resets what is in the queue of the last listener to close."""
        try:
            while True:
                accepted, _ = listener.accept()
                accepted.setblocking(False)
                self._begin(accepted)
        except OSError:
            return

    async def _wait(self, seconds: float) -> None:
        """Wait until all connections have ended, at most so long."""
        until = time.monotonic() + seconds
        while self.open and (left := until - time.monotonic()) > 0:
            await asyncio.wait(self.open.values(), timeout=left)


def run(server: Server, drain: float, handover: Handover | None) -> None:
    """Serve until SIGTERM or SIGINT, or until the next receiver has taken over; *drain*: see stop().

    A second signal ends the process at once, with 0: nothing acknowledged lives only in its memory.
    """

    def on_signal() -> None:
        if server.stopping.is_set():
            os._exit(0)
        server.stop(drain)

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal)
        offers = set()

        def started() -> None:
            if handover is not None:
                handover.taken()
                # Nobody waits for our end then: each idle connection gets its whole time.
                stop = partial(server.stop, server.house.limits.keep_alive)
                offers.add(loop.create_task(handover.offer(server.listeners, stop)))

        await server.serve(started)

    asyncio.run(serve())
