"""Sends one delivery over HTTP, as its provider would, and reads what is answered."""

import http.client
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import click

from receiver.delivery import Delivery

TIMEOUT = 20.0  # seconds; longer than any of our providers waits


class NoAnswer(OSError):
    """Connected, and then nothing came back in time, or nothing that is HTTP."""


@dataclass(frozen=True)
class Sent:
    """What a receiver answered: after how many ms, from the request's first byte to the answer's last."""

    status: int
    ms: float
    body: str
    media_type: str = ""


def post(delivery: Delivery, to: str) -> Sent:
    """Send *delivery* to the receiver at *to*, whatever its public URL says.

    Raises OSError; once it is connected, only NoAnswer.
    """
    url = urlsplit(to)
    connection_class = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = connection_class(url.netloc, timeout=TIMEOUT)
    try:
        connection.connect()
        started = time.monotonic()
        try:
            connection.request(delivery.method, delivery.target, delivery.body, dict(delivery.headers))
            response = connection.getresponse()
            body = response.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(str(error) or type(error).__name__) from error
        media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        return Sent(response.status, (time.monotonic() - started) * 1000, body, media_type)
    finally:
        connection.close()


def receiver_at(to: str) -> str:
    """Return ``http://host:port`` of what a person typed. Raises click.UsageError."""
    try:
        url = urlsplit(to if "://" in to else f"http://{to}")
        _ = url.port  # raises ValueError beyond 65535
        if url.scheme in ("http", "https") and url.hostname and url.path in ("", "/"):
            return f"{url.scheme}://{url.netloc}"
    except ValueError:
        pass
    raise click.UsageError(f"--to: expected http://host:port, without a path, got {to!r}")
