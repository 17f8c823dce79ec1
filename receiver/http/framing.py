"""Where a request begins and ends on a connection, without leniency.

h11 judges the syntax of lines and fields. The lines themselves are split here, since h11 also takes what a proxy in
front may read otherwise: a bare LF, a folded field, a length beside chunks (RFC 9112 §2.2, §5.2, §6.3).
"""

import asyncio
import re
from http import HTTPStatus

import h11

from receiver.http.stream import LINE_MAX, READ, Stream

HEAD_MAX = LINE_MAX  # bytes of the request line and all fields
FIELDS_MAX = 100
CHUNKS_MAX = 10_000  # of one body; a sender of bytes one by one costs more than he sends
CLOSE = (b"connection", b"close")
BREATH = 100  # chunks after which the other connections get a turn
ORIGIN = re.compile(rb"(?i)\Ahttps?://[^/?#]*")  # of a target in absolute form
SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?")


class Malformed(Exception):
    """The bytes are no request that we take. *cause* is a fixed text, with nothing of the request in it."""

    def __init__(self, status: int, cause: str) -> None:
        super().__init__(cause)
        self.status = status
        self.cause = cause


class BrokenOff(Exception):
    """The client hung up in the middle of a request."""


class Head:
    """A request's head; h11 writes the answer to it."""

    def __init__(self, http: h11.Connection, request: h11.Request) -> None:
        self.http = http
        self.method: bytes = request.method
        self.version: bytes = request.http_version
        self.fields: list[tuple[bytes, bytes]] = list(request.headers)
        # A server takes the absolute form as it takes the path (RFC 9112 §3.2.2). What it names as host is as
        # little believed as the Host field.
        rest = ORIGIN.sub(b"", request.target, count=1)
        self.target: bytes = rest if rest == request.target or rest[:1] == b"/" else b"/" + rest

    @property
    def waiting(self) -> bool:
        """Whether the client waits for a 100 before it sends the body."""
        return self.http.they_are_waiting_for_100_continue

    @property
    def done(self) -> bool:
        """Whether it is answered, and another request may follow."""
        return self.http.our_state is h11.DONE

    def go_on(self) -> bytes:
        """Return the 100."""
        return self.http.send(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue"))

    def begin(self, status: int, fields: list[tuple[bytes, bytes]]) -> bytes:
        """Return an answer's head."""
        reason = HTTPStatus(status).phrase.encode()
        return self.http.send(h11.Response(status_code=status, headers=fields, reason=reason))

    def rest(self, body: bytes, *, more: bool) -> bytes:
        """Return a part of its body; *more*: it isn't the last."""
        part = b"" if self.method == b"HEAD" else self.http.send(h11.Data(data=body))
        return part if more else part + self.http.send(h11.EndOfMessage())

    def length(self) -> int | None:
        """Return the body's length in bytes; None: it comes in chunks. Raises Malformed when that is ambiguous."""
        fields = dict(self.fields)
        if b"transfer-encoding" not in fields:
            return int(fields.get(b"content-length", 0))
        if b"content-length" in fields or self.version == b"1.0":
            raise Malformed(400, "its body has two lengths")
        return None


class Body:
    """A request's body, read as far as somebody asks for it."""

    def __init__(self, reader: Stream, length: int | None) -> None:
        self.reader = reader
        self.chunked = length is None
        self.left = length or 0  # bytes, of the chunk or of the whole
        self.chunks = 0
        self.complete = length == 0

    def here(self) -> bytes | None:
        """Return all of it, where all is there."""
        if self.chunked or self.left > len(self.reader.unread):
            return None
        data = self.reader.take(self.left)
        self.left, self.complete = 0, True
        return data

    async def read(self) -> bytes:
        """Return the next bytes, b"" at the end. Raises Malformed or BrokenOff."""
        if self.chunked and not self.complete and not self.left:
            await self._next_chunk()
        if self.complete:
            return b""
        data = await self.reader.read(min(self.left, READ))
        if not data:
            raise BrokenOff
        self.left -= len(data)
        if self.chunked and not self.left and await _line(self.reader):
            raise Malformed(400, "a chunk has another size than it says")
        self.complete = not self.chunked and not self.left
        return data

    async def _next_chunk(self) -> None:
        self.chunks += 1
        if self.chunks % BREATH == 0:
            await asyncio.sleep(0)
        size = SIZE.fullmatch(await _line(self.reader))
        if size is None or self.chunks > CHUNKS_MAX:
            raise Malformed(400, "its chunks are malformed, or too many")
        self.left = int(size[1], 16)
        if not self.left:
            await _lines(self.reader)  # trailers: nobody signed them as fields, and nobody reads them
            self.complete = True


async def begin(reader: Stream) -> bytes:
    """Return a request's first byte, b"" at the end. One empty line before it is passed over (RFC 9112 §2.2)."""
    first = await reader.read(1)
    if first == b"\r" and await reader.read(1) == b"\n":
        return await reader.read(1)
    return first


async def read_head(reader: Stream, first: bytes) -> Head:
    """Return the next request's head, of which *first* has been read. Raises Malformed or BrokenOff."""
    if first < b"!":  # a TLS hello, mostly; it has no line whose end could be waited for
        raise Malformed(400, "it is no HTTP/1.1")
    return judge(await _lines(reader, first))


def judge(lines: list[bytes]) -> Head:
    """Return the head of these lines. Raises Malformed."""
    http = h11.Connection(h11.SERVER)
    http.receive_data(b"\r\n".join([*lines, b"", b""]))
    try:
        request = http.next_event()
    except h11.RemoteProtocolError:
        raise Malformed(400, "it is no HTTP/1.1") from None
    if not isinstance(request, h11.Request) or request.http_version not in {b"1.0", b"1.1"}:
        raise Malformed(400, "it is no HTTP/1.1")
    return Head(http, request)


async def _lines(reader: Stream, first: bytes = b"") -> list[bytes]:
    """Return the lines up to an empty one: a head, or trailers."""
    lines: list[bytes] = []
    size = 0
    while line := first + await _line(reader, 431 if lines else 414):
        if line[:1] in b" \t":
            raise Malformed(400, "a field is folded")
        size += len(line) + 2
        if size > HEAD_MAX or len(lines) > FIELDS_MAX:
            raise Malformed(431 if lines else 414, "its head is too large")
        lines.append(line)
        first = b""
    return lines


async def _line(reader: Stream, too_long: int = 400) -> bytes:
    """Return a line without its CRLF. *too_long*: the status of one that is."""
    try:
        line = await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        raise BrokenOff from error
    except asyncio.LimitOverrunError as error:
        raise Malformed(too_long, "a line is too long") from error
    if not line.endswith(b"\r\n"):
        raise Malformed(400, "a line ends without CR")
    return line[:-2]
