"""Real receivers and processors, as commands in processes of their own, for tests that kill them."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from benchmarks.server import answers
from processor import postgres
from processor.children import ended_with_us
from receiver.providers import agent

SECRET = "a-secret-of-the-voice-agent-0123456789"
DEADLINE = 60.0  # seconds, for anything that is waited for


class Command:
    """One of our commands, running; it can be killed and started again."""

    def __init__(
        self, dsn: str, *arguments: str, before: Sequence[str] = (), stderr: Any = subprocess.DEVNULL, **environ: str
    ) -> None:
        self.before = before  # words of another command that runs ours
        self.stderr = stderr
        self.arguments = arguments
        self.environ = {**os.environ, "DATABASE_URL": dsn, "WEBHOOK_SECRET": SECRET, "LOG_LEVEL": "ERROR", **environ}
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self.before, sys.executable, "-m", *self.arguments], env=self.environ, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=self.stderr, **ended_with_us(signal.SIGKILL),
        )  # fmt: skip

    def kill_and_restart(self) -> None:
        """Kill -9, and start another in its place."""
        self.process.kill()
        self.process.wait()
        self.process = self._start()

    def stop(self) -> int:
        """Stop by SIGTERM and return the exit code."""
        self.process.terminate()
        return self.process.wait(DEADLINE)


@contextmanager
def receiver(dsn: str, port: int, **options: Any) -> Iterator[Command]:
    """*options*: as Command's."""
    command = Command(dsn, "receiver", "run", "--port", str(port), **options)
    try:
        wait_for(lambda: answers(port))
        yield command
    finally:
        command.stop()


@contextmanager
def processor(dsn: str, *arguments: str, **options: Any) -> Iterator[Command]:
    """*options*: as Command's."""
    command = Command(dsn, "processor", "run", *arguments, **options)
    try:
        yield command
    finally:
        command.stop()


def free_port() -> int:
    return postgres.free_port([0])


def wait_for(true, deadline: float = DEADLINE) -> None:
    """Poll until *true()*; fail after the deadline."""
    until = time.monotonic() + deadline
    while not true():
        assert time.monotonic() < until, f"still not so after {deadline:g} s"
        time.sleep(0.02)


def agent_event(event_id: str, **fields: Any) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of a signed delivery of the voice agent."""
    event = {"reminder_id": f"rem_{event_id}", "event_type": "call_answered", "event_id": event_id, **fields}
    body = json.dumps(event).encode()
    return body, {"content-type": "application/json", agent.SIGNATURE: agent.sign(SECRET.encode(), body)}


def post(port: int, body: bytes, headers: dict[str, str]) -> int:
    """Send one delivery on a connection of its own; return the status."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", "/webhooks/agent", body, headers)
        return connection.getresponse().status
    finally:
        connection.close()
