"""How many requests fail while receivers take over from each other: with --handover, none.

    python -m benchmarks.restarts [--restarts 10] [--rate 200] [--every 2]

Starts a receiver on a database of its own, sends it deliveries at an even rate, and --restarts times the next receiver
on the same port, before the one before it has ended. Most deliveries come on a connection of their own, the others on
connections that were idle for a while, as providers and proxies keep them. Everything but a 200 is a failure: a
refused connection, a reset, no answer within 10 s. Exits 1 where there is one, or where a stored delivery is missing.
"""

import asyncio
import hmac
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import psycopg

from benchmarks.server import database
from processor import migrations, postgres
from processor.children import ended_with_us

SECRET = b"a-secret-of-the-voice-agent-0123456789"  # of the receivers started here
DEADLINE = 60.0  # seconds, for anything that is waited for
ANSWER = 10.0  # seconds for one answer
KEPT = 0.3  # of the deliveries come on connections that are kept
IDLE = 100  # of those are kept, so each is idle for IDLE / (KEPT * rate) seconds

Receiver = subprocess.Popen[bytes]
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Sender:
    """Sends deliveries, and counts what came of them: "200", another status, or the name of an error."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.sent = 0
        self.outcomes: Counter[str] = Counter()
        self.slowest = 0.0  # seconds
        self.kept: list[Stream] = []

    async def send(self, rate: float, end: asyncio.Event) -> None:
        """Start a delivery every 1/rate seconds until *end*, whatever becomes of those before."""
        due_at = time.monotonic()
        async with asyncio.TaskGroup() as group:
            while not end.is_set():
                due_at += 1 / rate
                await asyncio.sleep(due_at - time.monotonic())
                self.sent += 1
                group.create_task(self._deliver(self.sent))
        for _, writer in self.kept:
            writer.close()

    async def _deliver(self, number: int) -> None:
        begun_at = time.monotonic()
        try:
            async with asyncio.timeout(ANSWER):
                outcome = await self._exchange(delivery(number))
        except (OSError, EOFError, TimeoutError) as error:
            outcome = type(error).__name__
        self.outcomes[outcome] += 1
        self.slowest = max(self.slowest, time.monotonic() - begun_at)

    async def _exchange(self, request: bytes) -> str:
        keep = random.random() < KEPT
        stream = (keep and self._idle()) or await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = stream
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if keep and b"connection: close" not in head:
            self.kept.append(stream)
        else:
            writer.close()
        return head.split()[1].decode()

    def _idle(self) -> Stream | None:
        """Return the connection that was idle longest; as clients do, not one that has been closed meanwhile."""
        while len(self.kept) >= IDLE:
            reader, writer = self.kept.pop(0)
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return None


def delivery(number: int) -> bytes:
    """Return a signed request."""
    event = {"reminder_id": f"rem_{number}", "event_type": "call_answered", "event_id": number}
    body = json.dumps(event).encode()
    lines = [
        "POST /webhooks/agent HTTP/1.1",
        "Host: localhost",
        f"X-Webhook-Signature: {hmac.digest(SECRET, body, 'sha256').hex()}",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def start(dsn: str, port: int, handover: Path) -> Receiver:
    """Start a receiver as an operator would; its warnings go to our stderr. Return when it accepts."""
    before = handover.stat().st_ino if handover.exists() else None
    environ = {**os.environ, "DATABASE_URL": dsn, "WEBHOOK_SECRET": SECRET.decode(), "LOG_LEVEL": "WARNING"}
    environ.pop("WEBHOOK_SOURCES", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "receiver", "run", "--port", str(port), "--handover", str(handover)],
        env=environ,
        stdin=subprocess.DEVNULL,
        stderr=None if os.environ.get("DBG") else subprocess.DEVNULL,
        **ended_with_us(signal.SIGKILL),
    )
    until = time.monotonic() + DEADLINE
    while not handover.exists() or handover.stat().st_ino == before:
        if process.poll() is not None or time.monotonic() > until:
            raise SystemExit(f"error: the receiver did not start (exit code {process.poll()})")
        time.sleep(0.02)
    return process


async def take_over(begin: Callable[[], Receiver], sender: Sender, restarts: int, rate: float, every: float) -> None:
    """Send, and *begin* so many receivers more, one *every* so many seconds; return when all have ended."""
    end = asyncio.Event()
    receivers = [begin()]
    sending = asyncio.create_task(sender.send(rate, end))
    for _ in range(restarts):
        await asyncio.sleep(every)
        receivers.append(await asyncio.to_thread(begin))
    await asyncio.sleep(every)
    end.set()
    await sending
    receivers[-1].terminate()
    for receiver in receivers:
        if code := await asyncio.to_thread(receiver.wait, DEADLINE):
            sender.outcomes[f"exit code {code}"] += 1


@click.command(help=(__doc__ or "").partition("\n")[0])
@click.option("--restarts", default=10, show_default=True, type=click.IntRange(1, 100), help="How many.")
@click.option("--rate", default=200.0, show_default=True, type=click.FloatRange(1, 2000), help="Deliveries a second.")
@click.option("--every", default=2.0, show_default=True, type=click.FloatRange(0, 60), help="Seconds between them.")
def main(*, restarts: int, rate: float, every: float) -> None:
    """Measure, and print one table."""
    port = postgres.free_port([0])
    with database() as dsn, tempfile.TemporaryDirectory(prefix="webhook-inbox-") as directory:
        with psycopg.connect(dsn, autocommit=True) as conn:
            migrations.migrate(conn)
        sender = Sender(port)
        begin = partial(start, dsn, port, Path(directory) / "handover")
        asyncio.run(take_over(begin, sender, restarts, rate, every))
        with psycopg.connect(dsn) as conn:
            (stored,) = conn.execute("SELECT count(*) FROM webhook_events").fetchone() or (0,)
    failed = sender.outcomes.total() - sender.outcomes["200"]
    click.echo(f"{restarts} restarts under {rate:g} deliveries/s")
    click.echo(f"{'sent':>8} {'stored':>8} {'failed':>8} {'slowest, s':>12}  what came")
    what = ", ".join(f"{name}: {count}" for name, count in sender.outcomes.items())
    click.echo(f"{sender.sent:>8} {stored:>8} {failed:>8} {sender.slowest:>12.2f}  {what}")
    sys.exit(failed > 0 or stored != sender.sent)


if __name__ == "__main__":
    main()
