"""One client's connection: its requests, one after the other, to the app. Every wait for the client has an end.

Nothing is read that nobody asked for, so a client is as slow as it likes at its own cost, and what it holds of our
memory is what the app reads, and a buffer.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from enum import Enum
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from starlette.types import ASGIApp, Message

from receiver.http.framing import CLOSE, Body, BrokenOff, Head, Malformed, begin, read_head
from receiver.http.ordinary import Fields, Ordinary, ordinary
from receiver.http.stream import READ, Stream

log = logging.getLogger("receiver")

LINGER_MAX = 4 * 1024 * 1024  # bytes
ASGI = {"version": "3.0", "spec_version": "2.3"}


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
        self.space = memoryview(bytearray(READ))
        self.second = 0
        self.words = b""

    def date(self) -> bytes:
        """Return the Date of an answer, put into words once a second."""
        second = int(time.time())
        if second != self.second:
            self.second, self.words = second, formatdate(second, usegmt=True).encode()
        return self.words


class Connection:
    """One accepted socket."""

    def __init__(self, house: House, accepted: socket.socket) -> None:
        self.house = house
        self.limits = house.limits
        self.accepted = accepted
        self.loop = asyncio.get_running_loop()
        self.stream = Stream(house.space, self.loop.time() + self.limits.receipt)
        self.doing = Doing.WAITING
        self.unwanted = False
        self.answers = 0
        self.served = False  # it has brought a delivery that was kept; an answer alone is had for a forgery
        self.held = 0  # bytes of the present request's body
        self.head: Head | Ordinary
        self.start: Message | None = None  # of the present answer, until its first bytes go

    async def run(self) -> None:
        """Answer requests until one side has enough."""
        try:
            self.accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, READ)  # else the kernel keeps 4 MB of answers
            await self.loop.connect_accepted_socket(lambda: self.stream, self.accepted)
        except OSError:  # it has hung up already
            self.accepted.close()
            return
        try:
            with suppress(OSError, BrokenOff):
                while not self.unwanted and await self._exchange():
                    pass
                await self._linger()
        finally:
            self._let_go()
            self.stream.abort()

    def cut(self) -> None:
        """End it at once; whoever reads from it finds its end. What it holds counts no more: it is as good as gone."""
        self.unwanted = True
        self._let_go()
        self.stream.abort()

    async def _exchange(self) -> bool:
        """Take one request and answer it. False: there is nothing more to say."""
        try:
            head = await self._head()
            if head is None:
                return False
            self.body = Body(self.stream, head.length())
        except Malformed as error:
            await self._refuse(error.status, error.cause)
            return False
        except TimeoutError:
            await self._refuse(408, "its head did not arrive in time")
            return False
        self.head, self.taken, self.malformed = head, False, False
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
        if self.stream.unread:
            await asyncio.sleep(0)  # who pipelines gets no more turns than others
        return self.head.done and self.body.complete

    async def _head(self) -> Head | Ordinary | None:
        """Return the next request's head, None where none begins in time. Raises Malformed, TimeoutError."""
        stream = self.stream
        self.doing = Doing.WAITING
        if self.answers:
            stream.due = self.loop.time() + self.limits.keep_alive
        try:
            await stream.arrival()
            head = ordinary(stream.unread)
            first = b"" if head else await begin(stream)
        except TimeoutError:
            return None
        if not (head or first):
            return None
        self.doing = Doing.RECEIVING
        if self.answers:
            stream.due = self.loop.time() + self.limits.receipt
        return head or await read_head(stream, first)

    async def _receive(self) -> Message:
        """Give the app more of the body. Raises TimeoutError when it is late."""
        if self.taken:
            return {"type": "http.disconnect"}
        self.doing = Doing.RECEIVING
        try:
            data = self.body.here()
            if data is None:
                if isinstance(self.head, Head) and self.head.waiting:
                    await self.stream.write(self.head.go_on(), self.limits.answer)
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
        if message["type"] == "http.response.start":
            self.start = message
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        start, self.start = self.start, None
        if start is None:
            data = self._judged().rest(body, more=more)
        else:
            data = self._begun(start["status"], list(start["headers"]), body, more=more)
        await self._write(data)

    def _begun(self, status: int, fields: Fields, body: bytes, *, more: bool) -> bytes:
        """Return an answer's head, and the first of its body."""
        self.served = self.served or (self.taken and status < HTTPStatus.MULTIPLE_CHOICES)
        if (self.house.draining or not self.body.complete) and CLOSE not in fields:
            fields.append(CLOSE)
        date = self.house.date()
        if isinstance(self.head, Ordinary) and not more:
            whole = self.head.whole(status, date, fields, body)
            if whole is not None:
                return whole
        head = self._judged()
        return head.begin(status, [(b"date", date), *fields]) + head.rest(body, more=more)

    def _judged(self) -> Head:
        if isinstance(self.head, Ordinary):
            self.head = self.head.judged()
        return self.head

    async def _refuse(self, status: int, cause: str) -> None:
        self.house.refused("unknown", status, f"not taken as a request: {cause}")
        await self._answer(status)

    async def _answer(self, status: int) -> None:
        """Send an answer of our own, the last one."""
        reason, date = HTTPStatus(status).phrase, self.house.date().decode()
        await self._write(
            f"HTTP/1.1 {status} {reason}\r\nDate: {date}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
        )

    async def _write(self, data: bytes) -> None:
        """Send it; a client that doesn't take it in time is cut."""
        try:
            await self.stream.write(data, self.limits.answer)
        except OSError:  # TimeoutError is one
            self.cut()

    async def _linger(self) -> None:
        """Close our side first: to close with bytes unread would reset the answer on its way (RFC 9112 §9.6)."""
        self.doing = Doing.ENDING
        self.stream.end()
        self.stream.due = self.loop.time() + self.limits.linger
        left = LINGER_MAX
        while left > 0 and (data := await self.stream.read(READ)):
            left -= len(data)

    def _let_go(self) -> None:
        self.house.held -= self.held
        self.held = 0


def _scope(head: Head | Ordinary) -> dict[str, Any]:
    """Return what ASGI says of the request; nothing of who sent it, which nobody asks."""
    path, _, query = head.target.partition(b"?")
    return {
        "type": "http",
        "asgi": ASGI,
        "http_version": head.version.decode(),
        "scheme": "http",
        "method": head.method.decode(),
        "root_path": "",
        "path": unquote(path.decode("ascii")) if b"%" in path else path.decode("ascii"),
        "raw_path": path,
        "query_string": query,
        "headers": head.fields,
        "state": {},
    }
