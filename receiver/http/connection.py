"""One client's connection: its requests, one after the other, to the app. Every wait for the client has an end.

Nothing is read that nobody asked for, so a client is as slow as it likes at its own cost, and what it holds of our
memory is what the app reads, and a buffer.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from enum import Enum
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import h11
from starlette.types import ASGIApp, Message

from receiver.http.framing import HEAD_MAX, READ, Body, BrokenOff, Head, Malformed, begin, read_head

log = logging.getLogger("receiver")

LINGER_MAX = 4 * 1024 * 1024  # bytes
CLOSE = (b"connection", b"close")


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients may take up. Times are seconds."""

    receipt: float = 10.0  # from a request's first byte, or from connecting, to its last byte
    keep_alive: float = 75.0  # without a request; longer than a proxy in front waits, so that it isn't cut under it
    answer: float = 10.0  # for the client to take the answer
    linger: float = 2.0  # for the client to hang up after the last answer
    connections: int = 1000  # fewer where the process may open fewer files
    held: int = 128 * 1024 * 1024  # bytes of bodies that aren't answered yet, of all connections


class Doing(Enum):
    """What a connection does; only one that is AT_WORK isn't cut to make room."""

    WAITING = "waiting"  # for a request's first byte
    RECEIVING = "receiving"
    AT_WORK = "at work"
    ENDING = "ending"


class House:
    """What the connections of one server share."""

    def __init__(self, app: ASGIApp, limits: Limits, refused: Callable[[str, int, str], None]) -> None:
        self.app = app
        self.limits = limits
        self.refused = refused  # counts and logs: source, status, cause
        self.draining = False  # answers say that they are the connection's last
        self.held = 0  # bytes of bodies
        self.full: Callable[[], None] = lambda: None  # called where held passes its limit


class Connection:
    """One accepted socket."""

    def __init__(self, house: House, accepted: socket.socket) -> None:
        self.house = house
        self.limits = house.limits
        self.accepted = accepted
        self.doing = Doing.WAITING
        self.unwanted = False
        self.answers = 0
        self.served = False  # it has brought a delivery that was kept; an answer alone is had for a forgery
        self.held = 0  # bytes of the present request's body
        self.transport: asyncio.Transport | None = None

    async def run(self) -> None:
        """Answer requests until one side has enough."""
        loop = asyncio.get_running_loop()
        self.due = loop.time() + self.limits.receipt
        self.reader = asyncio.StreamReader(limit=HEAD_MAX)
        protocol = asyncio.StreamReaderProtocol(self.reader)
        try:
            self.accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, READ)  # else the kernel keeps 4 MB of answers
            self.transport, _ = await loop.connect_accepted_socket(lambda: protocol, self.accepted)
        except OSError:  # it has hung up already
            self.accepted.close()
            return
        self.transport.set_write_buffer_limits(0)  # so that drain() waits until all is sent
        self.writer = asyncio.StreamWriter(self.transport, protocol, self.reader, loop)
        try:
            with suppress(OSError, BrokenOff):
                while not self.unwanted and await self._exchange():
                    pass
                await self._linger()
        finally:
            self._let_go()
            self.transport.abort()

    def cut(self) -> None:
        """End it at once; whoever reads from it finds its end. What it holds counts no more: it is as good as gone."""
        self.unwanted = True
        self._let_go()
        if self.transport is not None:
            self.transport.abort()

    async def _exchange(self) -> bool:
        """Take one request and answer it. False: there is nothing more to say."""
        try:
            head = await self._head()
            if head is None:
                return False
            self.body = Body(self.reader, head.length())
        except Malformed as error:
            await self._refuse(error.status, error.cause)
            return False
        except TimeoutError:
            await self._refuse(408, "its head did not arrive in time")
            return False
        self.head, self.taken, self.malformed, self.begun = head, False, False, b""
        self.doing = Doing.AT_WORK
        try:
            await self.house.app(_scope(head), self._receive, self._send)
        except Exception as error:  # noqa: BLE001 - the others' connections go on
            log.error("request failed cause=%s", type(error).__name__)
            return False
        self._let_go()
        if self.malformed:
            await self._answer(400)
        self.answers += 1
        await asyncio.sleep(0)  # who pipelines gets no more turns than others
        return head.http.our_state is h11.DONE and self.body.complete

    async def _head(self) -> Head | None:
        """Return the next request's head, None where none begins in time. Raises Malformed, TimeoutError."""
        loop = asyncio.get_running_loop()
        self.doing = Doing.WAITING
        try:
            async with asyncio.timeout_at(loop.time() + self.limits.keep_alive if self.answers else self.due):
                first = await begin(self.reader)
        except TimeoutError:
            return None
        if not first:
            return None
        self.doing = Doing.RECEIVING
        if self.answers:
            self.due = loop.time() + self.limits.receipt
        async with asyncio.timeout_at(self.due):
            return await read_head(self.reader, first)

    async def _receive(self) -> Message:
        """Give the app more of the body. Raises TimeoutError when it is late."""
        http = self.head.http
        if self.taken:
            return {"type": "http.disconnect"}
        if http.they_are_waiting_for_100_continue:
            self.writer.write(http.send(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")))
        self.doing = Doing.RECEIVING
        try:
            async with asyncio.timeout_at(self.due):
                data = await self.body.read()
        except TimeoutError:  # an OSError, too
            raise
        except (BrokenOff, OSError):
            return {"type": "http.disconnect"}
        except Malformed:
            self.malformed = True
            return {"type": "http.disconnect"}
        self.held += len(data)
        self.house.held += len(data)
        if self.house.held > self.limits.held:
            self.house.full()
        if self.unwanted:  # what had arrived before it was cut is not read on, nor kept
            self._let_go()
            return {"type": "http.disconnect"}
        if self.body.complete:
            self.doing, self.taken = Doing.AT_WORK, True
        return {"type": "http.request", "body": data, "more_body": not self.body.complete}

    async def _send(self, message: Message) -> None:
        """Send what the app answers: the head together with the first of the body."""
        http = self.head.http
        if message["type"] == "http.response.start":
            status, fields = message["status"], [(b"date", formatdate(usegmt=True).encode()), *message["headers"]]
            self.served = self.served or (self.taken and status < HTTPStatus.MULTIPLE_CHOICES)
            if (self.house.draining or not self.body.complete) and CLOSE not in fields:
                fields.append(CLOSE)
            reason = HTTPStatus(status).phrase.encode()
            self.begun = http.send(h11.Response(status_code=status, headers=fields, reason=reason)) or b""
            return
        parts = [self.begun]
        if self.head.method != b"HEAD":
            parts.append(http.send(h11.Data(data=message.get("body", b""))) or b"")
        if not message.get("more_body", False):
            parts.append(http.send(h11.EndOfMessage()) or b"")
        self.begun = b""
        await self._write(b"".join(parts))

    async def _refuse(self, status: int, cause: str) -> None:
        self.house.refused("unknown", status, f"not taken as a request: {cause}")
        await self._answer(status)

    async def _answer(self, status: int) -> None:
        """Send an answer of our own, the last one."""
        reason, date = HTTPStatus(status).phrase, formatdate(usegmt=True)
        await self._write(
            f"HTTP/1.1 {status} {reason}\r\nDate: {date}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
        )

    async def _write(self, data: bytes) -> None:
        """Send it; a client that doesn't take it in time is cut."""
        self.writer.write(data)
        try:
            async with asyncio.timeout(self.limits.answer):
                await self.writer.drain()
        except (TimeoutError, OSError):
            self.cut()

    async def _linger(self) -> None:
        """Close our side first: to close with bytes unread would reset the answer on its way (RFC 9112 §9.6)."""
        self.doing = Doing.ENDING
        self.writer.write_eof()
        left = LINGER_MAX
        with suppress(TimeoutError):
            async with asyncio.timeout(self.limits.linger):
                while left > 0 and (data := await self.reader.read(READ)):
                    left -= len(data)

    def _let_go(self) -> None:
        self.house.held -= self.held
        self.held = 0


def _scope(head: Head) -> dict[str, Any]:
    """Return what ASGI says of the request; nothing of who sent it, which nobody asks."""
    path, _, query = head.target.partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": head.version.decode(),
        "scheme": "http",
        "method": head.method.decode(),
        "root_path": "",
        "path": unquote(path.decode("ascii")),
        "raw_path": path,
        "query_string": query,
        "headers": head.fields,
        "state": {},
    }
