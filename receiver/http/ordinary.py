"""An ordinary request, read by two expressions, and its answer; h11 and framing.py are asked about all others.

What is ordinary is part of what they take, and they find the same in it: tests/test_ordinary.py holds it to them. It
has a head that has arrived whole, and nothing that is rare, or that two parsers could read differently.
"""

import re
from functools import lru_cache
from http import HTTPStatus

import h11

from receiver.http.framing import CLOSE, FIELDS_MAX, HEAD_MAX, Head, judge

Fields = list[tuple[bytes, bytes]]

LINE = re.compile(rb"(POST|GET) (/[!-~]*) HTTP/1\.1\r\n")
FIELD = re.compile(rb"(?m)^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([!-~](?:[ \t!-~]*[!-~])?)\r\n")
ODD = frozenset({b"expect", b"transfer-encoding", b"upgrade"})
FRAMING = frozenset({b"connection", b"content-length", b"transfer-encoding"})
WITHOUT_BODY = {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}
DIGITS_MAX = 15  # of a length
DATE = b"Thu, 01 Jan 1970 00:00:00 GMT"
BARE = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


class Ordinary:
    """A request's head, as framing.Head is one."""

    version = b"1.1"
    waiting = False  # for a 100

    def __init__(self, method: bytes, target: bytes, fields: Fields, length: int, *, last: bool) -> None:
        self.method = method
        self.target = target
        self.fields = fields
        self.size = length
        self.last = last  # the client says that it sends no other
        self.answered = False
        self.done = False  # answered, and another request may follow

    def length(self) -> int:
        """Return the body's length in bytes."""
        return self.size

    def whole(self, status: int, date: bytes, fields: Fields, body: bytes) -> bytes | None:
        """Return an answer as h11 writes it, None for one of an unusual kind."""
        found = _written(status, tuple(fields), self.last)
        if self.answered or found is None or found[2] != len(body):
            return None
        before, after, _ = found
        self.answered = True
        self.done = not self.last and CLOSE not in fields
        return b"%s%s%s%s" % (before, date, after, body)

    def judged(self) -> Head:
        """Return the same head, whose answer h11 writes. Raises LocalProtocolError where it has one."""
        if self.answered:
            raise h11.LocalProtocolError("a request has one answer")
        lines = [b"%s %s HTTP/1.1" % (self.method, self.target)]
        return judge([*lines, *(b"%s: %s" % field for field in self.fields)])


def ordinary(unread: bytearray) -> Ordinary | None:
    """Take an ordinary head off these bytes, None where they don't begin with one."""
    line = LINE.match(unread)
    end = unread.find(b"\r\n\r\n", 0, HEAD_MAX) + 2
    if line is None or end < 2:
        return None
    found = FIELD.findall(unread, line.end(), end)
    fields = [(name.lower(), value) for name, value in found]
    only = dict(fields)
    # As many as there are lines, so each line is one; each has its own name.
    if not unread.count(b"\n", line.end(), end) == len(fields) == len(only) <= FIELDS_MAX:
        return None
    length, connection = only.get(b"content-length", b"0"), only.get(b"connection", b"keep-alive").lower()
    if (
        b"host" not in only
        or not ODD.isdisjoint(only)
        or connection not in {b"keep-alive", b"close"}
        or not length.isdigit()
        or len(length) > DIGITS_MAX
    ):
        return None
    method, target = line.groups()
    del unread[: end + 2]
    return Ordinary(method, target, fields, int(length), last=connection == b"close")


@lru_cache(maxsize=256)
def _written(status: int, fields: tuple[tuple[bytes, bytes], ...], last: bool) -> tuple[bytes, bytes, int] | None:
    """Return what h11 writes before the date and after it, and the length it holds the body to; None: it doesn't."""
    framing = [field for field in fields if field[0].lower() in FRAMING and field != CLOSE]
    if [name for name, _ in framing] != [b"content-length"] or status in WITHOUT_BODY:
        return None
    http = h11.Connection(h11.SERVER)
    http.receive_data(BARE[last])
    http.next_event()
    reason = HTTPStatus(status).phrase.encode()
    head = http.send(h11.Response(status_code=status, headers=[(b"date", DATE), *fields], reason=reason))
    before, _, after = head.partition(DATE)
    return before, after, int(framing[0][1])
