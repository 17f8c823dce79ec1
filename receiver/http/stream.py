"""One client's bytes: those that came and nobody has read, and those that go. Every wait for the client has an end.

Like asyncio's StreamReader and StreamWriter, but the bytes that are there can be looked at, and one timer serves all
waits: it is moved only where a wait ends before it, and looks where it rings whether the wait is over.
"""

import asyncio
from typing import cast

READ = 64 * 1024  # bytes taken at once
LINE_MAX = 32 * 1024  # bytes
# Unread bytes at which the socket is left alone, and at which it is read again: nothing is read that nobody asked for.
FULL, ROOM = 64 * 1024, 32 * 1024


class Stream(asyncio.BufferedProtocol):
    """The bytes of one connection; one coroutine at a time waits for it.

    *space*: READ bytes, shared by all connections of a loop: filled and emptied within one turn of it.
    """

    def __init__(self, space: memoryview, due: float) -> None:
        self.loop = asyncio.get_running_loop()
        self.space = space
        self.due = due  # when reading ends with TimeoutError, by the loop's clock
        self.unread = bytearray()
        self.ended = False  # nothing more comes
        self.lost = False  # and nothing goes
        self.untaken = False  # the client hasn't taken all that was written
        self.paused = False
        self.transport: asyncio.Transport | None = None
        self.waiter: asyncio.Future[None] | None = None
        self.until = 0.0  # the wait's end
        self.timer: asyncio.TimerHandle | None = None
        self.rings_at = 0.0

    async def arrival(self) -> None:
        """Wait for unread bytes, or for the end. Raises TimeoutError."""
        while not (self.unread or self.ended):
            self._go_on()  # a head is taken off by another way than take()
            await self._wait(self.due)

    async def read(self, most: int) -> bytes:
        """Return the next bytes, at most so many, b"" at the end. Raises TimeoutError."""
        await self.arrival()
        return self.take(most)

    async def readuntil(self, separator: bytes) -> bytes:
        """Return a line, *separator* included. Raises as StreamReader's does, and TimeoutError."""
        looked = 0
        while (end := self.unread.find(separator, looked)) < 0:
            looked = len(self.unread)
            if looked > LINE_MAX:
                break
            if self.ended:
                raise asyncio.IncompleteReadError(self.take(looked), None)
            await self._wait(self.due)
        if not 0 <= end <= LINE_MAX:
            raise asyncio.LimitOverrunError("a line is too long", looked)
        return self.take(end + len(separator))

    def take(self, most: int) -> bytes:
        """Return unread bytes, at most so many."""
        data = bytes(self.unread[:most])
        del self.unread[:most]
        self._go_on()
        return data

    async def write(self, data: bytes, seconds: float) -> None:
        """Send it. Raises TimeoutError when the client doesn't take it in time, ConnectionError when it has gone."""
        if self.transport is None or self.transport.is_closing():
            raise ConnectionResetError
        self.transport.write(data)
        if self.untaken:
            until = self.loop.time() + seconds
            while self.untaken and not self.lost:
                await self._wait(until)
            if self.lost:
                raise ConnectionResetError

    def end(self) -> None:
        """Say that no more is written."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write_eof()

    def abort(self) -> None:
        """Hang up at once."""
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; nothing that was written counts as sent before the kernel has it."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(0)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - as the protocol has it
        """Return where the next bytes go."""
        return self.space

    def buffer_updated(self, nbytes: int) -> None:
        """Keep what came."""
        self.unread += self.space[:nbytes]
        if len(self.unread) >= FULL and not self.paused and self.transport is not None:
            self.paused = True
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """Keep our side open: who has said all still reads our answer."""
        self.ended = True
        self._wake()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go. What a reset connection had sent is not worked on: nobody waits for its answer."""
        self.ended = self.lost = True
        if exc is not None:
            self.unread.clear()
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self._wake()

    def pause_writing(self) -> None:
        """Have who wrote wait."""
        self.untaken = True

    def resume_writing(self) -> None:
        """Have who wrote go on."""
        self.untaken = False
        self._wake()

    def _go_on(self) -> None:
        """Read the socket again, where there is room."""
        if self.paused and len(self.unread) <= ROOM and self.transport is not None:
            self.paused = False
            self.transport.resume_reading()

    async def _wait(self, until: float) -> None:
        """Wait for a change. Raises TimeoutError at that time of the loop's clock, also where changes never cease."""
        if self.loop.time() >= until:
            raise TimeoutError
        self.until = until
        self.waiter = self.loop.create_future()
        if self.timer is None or until < self.rings_at:
            self._ring_at(until)
        try:
            await self.waiter
        finally:
            self.waiter = None

    def _wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def _ring_at(self, when: float) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.rings_at = when
        self.timer = self.loop.call_at(when, self._ring)

    def _ring(self) -> None:
        self.timer = None
        if self.waiter is None or self.waiter.done():
            return
        if self.loop.time() < self.until:
            self._ring_at(self.until)
        else:
            self.waiter.set_exception(TimeoutError())
