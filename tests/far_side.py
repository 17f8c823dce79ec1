"""The other side of what we send over HTTP: a server that does what a test tells it to, or hands on to a receiver."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.http_receiver import Receiver

DEADLINE = 60.0  # seconds


@dataclass(frozen=True)
class Got:
    """One request, as it came."""

    target: str
    headers: dict[str, str]
    body: bytes


Answer = Callable[[Got], int | None]  # the status; None: hang up without any


@dataclass
class FarSide:
    """What it was sent, and what it does with the requests to come: answers in turn, then 200."""

    url: str
    answers: list[Answer] = field(default_factory=list)
    got: list[Got] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def answer(self, *statuses: int) -> None:
        self.answers += [always(status) for status in statuses]

    def hang_up(self, after: Callable[[Got], object] = lambda got: None) -> None:
        """Break off the next connection once *after* was called with its request."""

        def answer(got: Got) -> None:
            after(got)

        self.answers.append(answer)

    def be_silent(self) -> None:
        """Leave the next request without an answer until the test is over."""
        self.hang_up(after=lambda _: self.over.wait(DEADLINE))


def always(status: int) -> Answer:
    return lambda _: status


def hand_to(receiver: Receiver) -> Callable[[Got], int]:
    """Return an answer: what the receiver says."""
    return lambda got: receiver.send("POST", "/webhooks/agent", dict(got.headers), got.body).status


@contextmanager
def far_side() -> Iterator[FarSide]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            got = Got(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            side.got.append(got)
            status = side.answers.pop(0)(got) if side.answers else 200
            if status is None:
                return
            self.send_response(status)
            self.send_header("location", side.url)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format, *args):  # noqa: A002 - its name there
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    side = FarSide(f"http://127.0.0.1:{server.server_port}/webhooks/agent?to=it")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield side
    finally:
        side.over.set()
        server.shutdown()
        thread.join()
        server.server_close()
