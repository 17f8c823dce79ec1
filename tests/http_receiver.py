"""The receiver as its callers meet it: the real app behind our real server on a loopback port, and raw requests to it.

Configured by a real TOML file, so that whatever a test needs is something that an operator can write.
"""

import asyncio
import http.client
import json
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

from psycopg.rows import namedtuple_row
from psycopg.types.json import set_json_loads

from receiver.app import create_app
from receiver.http.connection import Limits
from receiver.http.listeners import bound
from receiver.http.server import Server
from receiver.settings import Settings, from_environ

JSON = {"content-type": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}


@dataclass(frozen=True)
class Reply:
    """What came back; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Receiver:
    """A running receiver. *now*: unix seconds its clock stands at, None: it goes."""

    def __init__(self, settings: Settings, limits: Limits | None = None, **options: Any) -> None:
        self.now: float | None = None
        options = {"receipt_deadline": None, **options}  # as `receiver run`
        app = create_app(settings, now=lambda: time.time() if self.now is None else self.now, **options)
        # As `receiver run` starts it. It listens from here on, so nobody needs to wait until it has started.
        (listener,) = bound("127.0.0.1", 0)
        self.address: tuple[str, int] = listener.getsockname()
        self.server = Server(app, [listener], limits)
        self.started = Event()
        self.thread = Thread(target=asyncio.run, args=[self._serve()])
        self.thread.start()
        self.started.wait()

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.started.set()
        await self.server.serve()

    def begin_to_stop(self, drain: float = 0.0) -> None:
        self.loop.call_soon_threadsafe(self.server.stop, drain)

    def stop(self) -> None:
        with suppress(RuntimeError):  # it has ended, or is about to: its loop is closed
            self.begin_to_stop()
        self.thread.join()

    def send(self, method: str, target: str, headers: dict[str, Any], body: bytes = b"") -> Reply:
        """Send one request. Text goes out in UTF-8, also where HTTP doesn't allow it."""
        lines = [f"{method} {target} HTTP/1.1".encode()]
        names = {name.lower() for name in headers}
        defaults = {"Host": "inbox.test", "Connection": "close"}
        if body or method == "POST":
            defaults["Content-Length"] = str(len(body))
        sent = {name: value for name, value in defaults.items() if name.lower() not in names} | headers
        for name, value in sent.items():
            values = value if isinstance(value, list) else [value]
            lines += [name.encode() + b": " + (one if isinstance(one, bytes) else one.encode()) for one in values]
        return self.exchange(b"\r\n".join(lines) + b"\r\n\r\n" + body, method)

    def exchange(self, request: bytes, method: str = "POST") -> Reply:
        """Send these bytes, whatever they are, and read one response."""
        with socket.create_connection(self.address, timeout=10) as connection:
            with suppress(BrokenPipeError, ConnectionResetError):  # answered before it was all sent
                connection.sendall(request)
            with http.client.HTTPResponse(connection, method=method) as response:
                response.begin()
                headers = {name.lower(): value for name, value in response.getheaders()}
                return Reply(response.status, headers, response.read())


def settings(directory: Path, dsn: str, sources: list[dict[str, Any]], **environ: str) -> Settings:
    """Write the sources' TOML file into *directory*, and read it as the receiver does."""
    path = directory / "sources.toml"
    tables = ["[[source]]\n" + "".join(f"{name} = {toml(value)}\n" for name, value in one.items()) for one in sources]
    path.write_text("\n".join(tables), encoding="utf-8")
    return from_environ({"DATABASE_URL": dsn, "WEBHOOK_SOURCES": str(path), **environ})


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {toml(item)}" for name, item in value.items()) + "}"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def rows(db: Any) -> list[Any]:
    """Return the stored events, oldest first."""
    return _read(db, "SELECT * FROM webhook_events ORDER BY id")


def duplicates(db: Any) -> list[Any]:
    return _read(db, "SELECT * FROM webhook_duplicates ORDER BY id")


def _read(db: Any, query: str) -> list[Any]:
    cursor = db.cursor(row_factory=namedtuple_row)
    # Python reads no integer of more than 4,300 digits; jsonb holds more.
    set_json_loads(partial(json.loads, parse_int=lambda digits: int(digits) if len(digits) < 4000 else digits), cursor)
    return list(cursor.execute(query))
