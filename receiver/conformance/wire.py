"""Requests as bytes on a socket, so that also what no client would send can be sent; answers as they come."""

import http.client
import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from receiver.delivery import Delivery

TIMEOUT = 10.0  # seconds for an answer
ANSWER_MAX = 64 * 1024  # bytes of an answer that are read


@dataclass(frozen=True)
class Reply:
    """What came back, after how many ms; status 0: nothing, or nothing that is HTTP, and the body says what instead."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    ms: float = 0.0

    @property
    def good(self) -> bool:
        """Whether it is a 2xx."""
        return 200 <= self.status < 300

    @property
    def refused(self) -> bool:
        """Whether it is a 4xx."""
        return 400 <= self.status < 500

    def __str__(self) -> str:
        return str(self.status) if self.status else self.body.decode()


def connect(to: str) -> socket.socket:
    """Return a connection to ``http[s]://host[:port]``. Raises OSError."""
    url = urlsplit(to)
    assert url.hostname is not None  # noqa: S101 - the commands let no other URL in
    plain = socket.create_connection((url.hostname, url.port or (443 if url.scheme == "https" else 80)), TIMEOUT)
    if url.scheme != "https":
        return plain
    return ssl.create_default_context().wrap_socket(plain, server_hostname=url.hostname)


def head(delivery: Delivery, *more: tuple[str, str], without: Iterable[str] = ()) -> bytes:
    """Return request line and headers: the delivery's but *without* these, and then *more*, repeated or not."""
    dropped = set(without)
    lines = [f"{delivery.method} {delivery.target} HTTP/1.1"]
    pairs = [*((name, value) for name, value in delivery.headers.items() if name not in dropped), *more]
    lines += [f"{name}: {value}" for name, value in pairs]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def whole(delivery: Delivery, *more: tuple[str, str], without: Iterable[str] = (), keep: bool = False) -> bytes:
    """Return the whole request, framed by its length; *keep*: the connection is kept open after it."""
    framing = [("content-length", str(len(delivery.body)))]
    closing = [] if keep else [("connection", "close")]
    return head(delivery, *more, *framing, *closing, without=without) + delivery.body


def chunked(body: bytes, trailer: str = "") -> bytes:
    """Return *body* in two chunks, with a *trailer* field after them."""
    middle = len(body) // 2
    parts = [part for part in (body[:middle], body[middle:]) if part]
    after = f"{trailer}\r\n".encode("latin-1") if trailer else b""
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n" + after + b"\r\n"


def exchange(to: str, request: bytes, method: str = "POST") -> Reply:
    """Send these bytes on a connection of their own and return the answer. Raises OSError where none is taken."""
    with connect(to) as connection:
        return ask(connection, request, method)


def ask(connection: socket.socket, request: bytes, method: str = "POST") -> Reply:
    """Send these bytes and return the answer."""
    began = time.monotonic()
    with suppress(BrokenPipeError, ConnectionResetError):  # answered before it was all sent
        connection.sendall(request)
    return answer(connection, began, method)


def answer(connection: socket.socket, began: float, method: str = "POST") -> Reply:
    """Return the next answer, an interim one passed over. *began*: when its request was, by the monotonic clock."""
    response = http.client.HTTPResponse(connection, method=method)
    try:
        response.begin()
        body = response.read(ANSWER_MAX)
    except (OSError, http.client.HTTPException) as error:
        return Reply(0, {}, f"no answer ({type(error).__name__})".encode())
    finally:
        response.close()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Reply(response.status, headers, body, (time.monotonic() - began) * 1000)
