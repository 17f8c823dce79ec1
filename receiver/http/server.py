"""How `receiver run` serves: accepts what there is room for, and ends without failing anybody.

When all connections are taken, the newest gets the place of one that waits for its client: who is slow loses, who
sends a request is served. uvicorn has no such limits, nor deadlines; docs/http.md has the comparison.
"""

import asyncio
import errno
import gc
import logging
import os
import resource
import signal
import socket
import time
from collections.abc import Callable
from functools import partial

from starlette.applications import Starlette

from receiver.http.connection import Connection, Doing, House, Limits
from receiver.http.listeners import Handover

log = logging.getLogger("receiver")

RESERVE = 64  # files for the database, the log and the like
FINISH = 15.0  # seconds for requests under way at the end: to arrive, to be stored, to be answered
AT_ONCE = 16  # connections accepted before those that are open get a turn
LOOK = 0.5  # seconds between two looks whether the end was brought forward
RETRY = 0.1  # seconds to the next look whether there is room
GARBAGE = 10_000  # objects that may have come in excess of those gone, until the youngest are looked through
EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Server:
    """Serves one app on these listening sockets, which it closes at its end."""

    at_once = AT_ONCE

    def __init__(self, app: Starlette, listeners: list[socket.socket], limits: Limits | None = None) -> None:
        self.app = app
        self.listeners = listeners
        limits = limits or Limits()
        self.house = House(app, limits, app.state.refused)
        self.house.full = self._cut_largest
        self.room = min(limits.connections, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVE)
        self.open: dict[Connection, asyncio.Task[None]] = {}
        self.stopping = asyncio.Event()
        self.paused = True  # does not accept
        self.until = 0.0  # when idle connections are cut at the end, by the monotonic clock
        self.told_at = -60.0

    async def serve(self, started: Callable[[], None] = lambda: None) -> None:
        """Serve until stop(). Calls *started* when it accepts."""
        async with self.app.router.lifespan_context(self.app):
            for listener in self.listeners:
                listener.setblocking(False)
            self._resume()
            started()
            await self.stopping.wait()
            await self._end()

    def stop(self, drain: float) -> None:
        """Accept no more; idle connections may carry one more request each for *drain* seconds.

        Called again, it makes that shorter.
        """
        until = time.monotonic() + drain
        self.until = min(self.until, until) if self.stopping.is_set() else until
        self.app.state.draining = self.house.draining = True
        self.stopping.set()

    def _resume(self) -> None:
        """Accept what comes, as long as there is room."""
        if self.paused and not self.stopping.is_set():
            self.paused = False
            for listener in self.listeners:
                asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _pause(self) -> None:
        self.paused = True
        for listener in self.listeners:
            asyncio.get_running_loop().remove_reader(listener)

    def _accept(self, listener: socket.socket) -> None:
        """Take some of the connections that wait. No coroutine: one that is cancelled may lose what it accepted."""
        try:
            for _ in range(self.at_once):
                if len(self.open) >= self.room:
                    self._make_room(f"all {self.room} connections are taken")
                    return
                self._begin(listener.accept()[0])
        except OSError as error:  # BlockingIOError: that was all; or it broke off in the queue
            if error.errno in EXHAUSTED:
                self._make_room("out of files or memory")

    def _begin(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        connection = Connection(self.house, accepted)
        self.open[connection] = task = asyncio.create_task(connection.run())

        def end(_task: asyncio.Task[None]) -> None:
            del self.open[connection]
            self._resume()

        task.add_done_callback(end)

    def _make_room(self, cause: str) -> None:
        """Cut the oldest of those that wait for their client, rather one that brought nothing; accept after that."""
        self._pause()
        asyncio.get_running_loop().call_later(RETRY, self._resume)  # whether or not one ends
        waiting = [one for one in self.open if one.doing is not Doing.AT_WORK]
        if waiting:
            self._tell(cause)
            min(waiting, key=lambda one: (one.doing is not Doing.ENDING, one.served)).cut()

    def _cut_largest(self) -> None:
        self._tell("unfinished bodies hold too much memory")
        max((one for one in self.open if one.doing is Doing.RECEIVING), key=lambda one: one.held).cut()

    def _tell(self, cause: str) -> None:
        if time.monotonic() - self.told_at >= 10:
            self.told_at = time.monotonic()
            log.warning("connections cut cause=%s", cause)

    async def _end(self) -> None:
        """Answer who is there already, then end."""
        self._pause()
        for listener in self.listeners:
            self._accept_queued(listener)
            listener.close()
        log.info("draining connections=%d", len(self.open))
        await self._wait(lambda: self.until)
        for connection in self.open:
            if connection.doing is Doing.WAITING:
                connection.cut()
        finish = time.monotonic() + FINISH
        await self._wait(lambda: finish)
        for task in self.open.values():
            task.cancel()
        await self._wait(lambda: finish + 1)

    def _accept_queued(self, listener: socket.socket) -> None:
        """Take what the kernel has accepted for us: it resets what is in the queue of the last listener to close."""
        try:
            while True:
                self._begin(listener.accept()[0])
        except OSError:
            return

    async def _wait(self, until: Callable[[], float]) -> None:
        """Wait until all connections have ended, at most until then; a time that comes nearer is seen within LOOK."""
        while self.open and (left := until() - time.monotonic()) > 0:
            await asyncio.wait(self.open.values(), timeout=min(left, LOOK))


def run(server: Server, drain: float, handover: Handover | None) -> None:
    """Serve until SIGTERM or SIGINT, or until the next receiver has taken over; *drain*: see stop().

    A second signal ends the process at once, with 0: nothing acknowledged lives only in its memory. One that comes
    after the next receiver has taken over is the first.
    """
    signals = 0

    def on_signal() -> None:
        nonlocal signals
        signals += 1
        if signals > 1:
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

    # What is in memory by now never is garbage, and a delivery leaves hardly any that counting references misses. To
    # look for some after each 700 objects took an eighth of the time.
    gc.freeze()
    gc.set_threshold(GARBAGE, 20, 50)
    asyncio.run(serve())
