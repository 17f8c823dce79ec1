"""Senders that post without a pause, and remember outside the machine that fails what it acknowledged."""

import http.client
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256

import psycopg

from tests.processes import agent_event

STORED = """
    SELECT event_id, body_sha256 FROM webhook_events WHERE source = 'agent'
"""


class Load:
    """What came of the deliveries so far; slowest: an answer, in seconds.

    name: what the event ids begin with; size: so many bytes more a body, which nobody can compress.
    """

    def __init__(self, port: int, name: str, *, senders: int = 4, size: int = 0) -> None:
        self.port = port
        self.name = name
        self.size = size
        self.acknowledged: dict[str, bytes] = {}  # body's SHA-256 by event id
        self.refused: Counter[int] = Counter()  # by status
        self.broken = 0  # no answer: stored or not
        self.slowest = 0.0
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(senders)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Send no more, and return once each sender has its last answer."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _send(self, sender: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        number = 0
        while not self._over.is_set():
            number += 1
            event_id = f"{self.name}-{sender}-{number}"
            body, headers = agent_event(event_id, noise=secrets.token_urlsafe(self.size * 3 // 4))
            began = time.monotonic()
            try:
                connection.request("POST", "/webhooks/agent", body, headers)
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                self.broken += 1
                self._over.wait(0.05)
                continue
            self.slowest = max(self.slowest, time.monotonic() - began)
            if 200 <= answer.status < 300:
                self.acknowledged[event_id] = sha256(body).digest()
            else:
                self.refused[answer.status] += 1
        connection.close()


@contextmanager
def load(port: int, name: str = "event", *, senders: int = 4, size: int = 0) -> Iterator[Load]:
    """Send until the block is left."""
    running = Load(port, name, senders=senders, size=size)
    running.start()
    try:
        yield running
    finally:
        running.stop()


def lost(dsn: str, acknowledged: dict[str, bytes]) -> list[str]:
    """Return the ids that were acknowledged and are not stored, byte for byte."""
    with psycopg.connect(dsn) as conn:
        stored: dict[str, bytes] = dict(conn.execute(STORED).fetchall())
    return [event_id for event_id, digest in acknowledged.items() if stored.get(event_id) != digest]
