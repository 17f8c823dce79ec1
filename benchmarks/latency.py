"""How long it is from a delivery's POST to its handler's committed effect, one delivery at a time.

    python -m benchmarks.latency [--rate 20] [--seconds 30] [--even] [--interval 5] [--workers 1] [--no-listen]

Starts a receiver and a processor, on a database of its own in a private PostgreSQL (or on the server of DATABASE_URL,
whose user may create databases). Deliveries come at random, as from many callers: --rate is the mean, and half of the
gaps are shorter than 0.7 of theirs; with --even all are the same. Each delivery is timed from before its first byte is
sent until this program is told of its handler's write, which PostgreSQL does once that is committed: so telling it
counts too.
"""

import hmac
import http.client
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import click
import psycopg
from psycopg import Connection

from benchmarks.server import answers, database
from processor import Event, migrations, on, postgres
from processor.children import ended_with_us

ROOT = Path(__file__).parents[1]
SECRET = "a-secret-of-the-voice-agent-0123456789"  # noqa: S105 - of the receiver started here
DEADLINE = 60.0  # seconds, for anything that is waited for
WARM_UP = 20  # deliveries that are not counted


@on("call.answered")
def write(event: Event, conn: Connection) -> None:
    """Write one row, and have whoever measures told of it at the commit."""
    conn.execute("INSERT INTO effects (event_id) VALUES (%s)", [event.event_id])
    conn.execute("SELECT pg_notify('effects', %s)", [event.event_id])


@click.command(help=(__doc__ or "").partition("\n")[0])
@click.option("--rate", default=20.0, show_default=True, help="Deliveries a second, on average.")
@click.option("--seconds", default=30.0, show_default=True, help="How long they are sent.")
@click.option("--even", is_flag=True, help="Send them at even distances, not at random.")
@click.option("--interval", default=5.0, show_default=True, help="The processor's.")
@click.option("--workers", default=1, show_default=True, help="The processor's.")
@click.option("--no-listen", is_flag=True, help="Have the processor only poll.")
def main(  # noqa: PLR0913 - one argument an option
    *, rate: float, seconds: float, even: bool, interval: float, workers: int, no_listen: bool
) -> None:
    """Measure, and print one table."""
    options = ["--interval", f"{interval:g}", "--workers", str(workers), *["--no-listen"] * no_listen]
    gaps = [1 / rate if even else random.expovariate(rate) for _ in range(round(rate * seconds))]
    port = postgres.free_port([0])
    with database() as dsn, ExitStack() as stack:
        with psycopg.connect(dsn, autocommit=True) as conn:
            migrations.migrate(conn)
            conn.execute("CREATE TABLE effects (event_id text PRIMARY KEY)")
        stack.enter_context(command(dsn, "receiver", "run", "--port", str(port)))
        stack.enter_context(command(dsn, "processor", "run", "--handlers", "benchmarks.latency", *options))
        ms = sorted(1000 * time for time in measure(dsn, port, gaps))
    cuts = statistics.quantiles(ms, n=100, method="inclusive")
    click.echo(f"POST to committed effect, ms; {rate:g}/s {'evenly' if even else 'at random'}; {' '.join(options)}")
    click.echo(f"{'count':>8} {'median':>8} {'p90':>8} {'p99':>8} {'max':>8}")
    click.echo(f"{len(ms):>8} {cuts[49]:>8.1f} {cuts[89]:>8.1f} {cuts[98]:>8.1f} {ms[-1]:>8.1f}")


def measure(dsn: str, port: int, gaps: list[float]) -> list[float]:
    """Send a delivery after each of *gaps* (seconds), and return the seconds from POST to effect of each."""
    sent_at: dict[str, float] = {}
    done_at: dict[str, float] = {}
    listener = psycopg.connect(dsn, autocommit=True)
    listener.execute("LISTEN effects")
    threading.Thread(target=hear, args=(listener, done_at), daemon=True).start()
    wait_for(lambda: answers(port))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    due_at = time.monotonic()
    for number, gap in enumerate([0.2] * WARM_UP + gaps):
        due_at += gap
        time.sleep(max(0.0, due_at - time.monotonic()))
        body = json.dumps({"reminder_id": f"rem_{number}", "event_type": "call_answered", "event_id": number}).encode()
        signature = hmac.digest(SECRET.encode(), body, "sha256").hex()
        begun_at = time.monotonic()
        connection.request("POST", "/webhooks/agent", body, {"X-Webhook-Signature": signature})
        response = connection.getresponse()
        response.read()
        if response.status != 200:
            raise SystemExit(f"error: delivery {number} was answered {response.status}, expected 200")
        sent_at[str(number)] = begun_at
    wait_for(lambda: len(done_at) == len(sent_at))
    return [done_at[number] - begun_at for number, begun_at in sent_at.items()][WARM_UP:]


def hear(listener: Connection, done_at: dict[str, float]) -> None:
    """Note when each event's effect was told of, for as long as this program lives."""
    with suppress(psycopg.OperationalError):  # its database is dropped at the end
        for notification in listener.notifies():
            done_at[notification.payload] = time.monotonic()


@contextmanager
def command(dsn: str, *arguments: str) -> Iterator[None]:
    """Run a command of ours; its warnings go to our stderr."""
    environ = {**os.environ, "DATABASE_URL": dsn, "WEBHOOK_SECRET": SECRET, "LOG_LEVEL": "WARNING", "SPOOL_DIR": "off"}
    environ.pop("WEBHOOK_SOURCES", None)
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        env=environ,
        cwd=ROOT,  # for the handler above
        stdin=subprocess.DEVNULL,
        **ended_with_us(signal.SIGKILL),
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def wait_for(true: Callable[[], bool]) -> None:
    """Wait until *true()*; end with an error after the deadline."""
    until = time.monotonic() + DEADLINE
    while not true():
        if time.monotonic() > until:
            raise SystemExit(f"error: still not so after {DEADLINE:g} s; see the lines above")
        time.sleep(0.02)


if __name__ == "__main__":
    main()
