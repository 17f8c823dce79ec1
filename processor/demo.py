"""The whole inbox on one machine, with nothing installed: database, receiver, processor, sample deliveries.

The receiver runs as the command it is, in a process of its own: this room imports nothing of it.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import psycopg
from psycopg import Connection

from processor import children, migrations, operations, postgres
from processor.operations import Filter
from sql import database

PORT = 8000  # preferred; the next free one otherwise
SECONDS = 60.0  # that samples may take to be handled; the one that fails once waits 5 s
# Known to everybody, for a receiver on loopback that holds nothing but samples.
SECRETS = {
    "TWILIO_AUTH_TOKEN": "demo-twilio-auth-token-0123456789",
    "VAPI_WEBHOOK_SECRET": "demo-vapi-secret-0123456789abcdef",
    "DIALPAD_WEBHOOK_SECRET": "demo-dialpad-secret-0123456789abc",
    "WEBHOOK_SECRET": "demo-agent-secret-0123456789abcde",
}


class DemoFailed(Exception):
    """The demo can't start, or didn't do what it shows; the message says what to do or to read."""


@dataclass
class Tally:
    """What the samples came to."""

    sent: int = 0
    refused: int = 0
    repeated: int = 0
    retried: int = 0
    ended: dict[int, str] = field(default_factory=dict)

    def summary(self) -> dict[str, int]:
        """Return the counts by name."""
        outcomes = list(self.ended.values())
        return {
            "sent": self.sent,
            "refused": self.refused,
            "duplicates": self.repeated,
            "stored": len(outcomes),
            "handled": outcomes.count("handled"),
            "retried": self.retried,
            "no_handler": outcomes.count("no_handler"),
            "dead": outcomes.count("dead"),
        }


def demo(data_dir: Path, *, fresh: bool, leave: bool) -> bool:
    """Start everything, send the samples, tell what became of each, and stay until a signal (unless *leave*).

    Returns whether it got so far: False when a signal came before all samples were handled.
    *data_dir* holds the private PostgreSQL; logs are kept beside it. Raises DemoFailed, postgres.Unavailable,
    database.NoDatabase. Leaves no process behind.
    """
    stopping = threading.Event()
    with ExitStack() as stack:
        stack.enter_context(_signals(stopping))
        dsn, psql = _database(stack, data_dir, fresh=fresh)
        logs = data_dir.with_name(f"{data_dir.name}.logs")
        logs.mkdir(parents=True, exist_ok=True)
        with psycopg.connect(dsn, autocommit=True) as conn:
            migrations.migrate(conn)
            _check_nothing_waits(conn)
            port = postgres.free_port([PORT, 0])
            url = f"http://127.0.0.1:{port}"
            environ = {**os.environ, **SECRETS, "DATABASE_URL": dsn, "BASE_URL": url}
            environ.pop("WEBHOOK_SOURCES", None)
            receiver = ["receiver", "run", "--host", "127.0.0.1", "--port", str(port)]
            handlers = ["--handlers", "handlers", "--handlers", "processor.demo_handlers"]
            running = {
                "receiver": _start(stack, receiver, environ, logs / "receiver.log"),
                "processor": _start(stack, ["processor", "run", "--interval", "1", *handlers], environ,
                                    logs / "processor.log"),
            }  # fmt: skip
            _await_ready(url, running, logs, stopping)
            tally = Tally() if stopping.is_set() else _send_samples(conn, environ, url, stopping)
            if stopping.is_set():
                return False
            _check(tally, logs)
            if not leave:
                _explain(conn, environ, url, psql, logs)
                while not stopping.wait(0.5):
                    _check_alive(running, logs)
            return True


def _database(stack: ExitStack, data_dir: Path, *, fresh: bool) -> tuple[str, str]:
    """Return a DSN and a psql: of DATABASE_URL where it is set, else of a private PostgreSQL."""
    if os.environ.get("DATABASE_URL", "").strip():
        if fresh:
            raise DemoFailed("--fresh wipes the demo's own database only; unset DATABASE_URL")
        click.echo("database: DATABASE_URL", err=True)
        return database.dsn(os.environ, "inbox-demo"), "psql"
    if fresh:
        postgres.wipe(data_dir)
    server = stack.enter_context(postgres.start(data_dir))
    click.echo(f"database: a private PostgreSQL in {data_dir}", err=True)
    return server.dsn, str(server.psql)


def _check_nothing_waits(conn: Connection) -> None:
    if os.environ.get("DATABASE_URL", "").strip() and (waiting := operations.counts(conn).unprocessed):
        raise DemoFailed(
            f"DATABASE_URL has {waiting} unprocessed events, which the demo's handlers would take; "
            "unset DATABASE_URL, and the demo brings a database of its own"
        )


def _start(stack: ExitStack, command: list[str], environ: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as file:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", *command],
            env=environ, stdin=subprocess.DEVNULL, stdout=file, stderr=file, **children.ended_with_us(signal.SIGTERM),
        )  # fmt: skip
    stack.callback(_end, child)
    return child


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(15)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _check_alive(running: dict[str, subprocess.Popen[bytes]], logs: Path) -> None:
    for name, child in running.items():
        if child.poll() is not None:
            raise DemoFailed(f"the {name} ended with status {child.returncode}; see {logs / name}.log")


def _await_ready(url: str, running: dict[str, subprocess.Popen[bytes]], logs: Path, stopping: threading.Event) -> None:
    until = time.monotonic() + 20
    while not stopping.is_set():
        _check_alive(running, logs)
        try:
            urllib.request.urlopen(f"{url}/readyz", timeout=2).close()  # noqa: S310 - our own URL
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() > until:
                raise DemoFailed(f"the receiver is not ready after 20 s; see {logs / 'receiver.log'}") from error
            stopping.wait(0.05)
        else:
            return


def _send_samples(conn: Connection, environ: dict[str, str], url: str, stopping: threading.Event) -> Tally:
    """Send the tour, and print each answer and each outcome as it comes, until all are handled or SECONDS are over."""
    tally = Tally()
    first = max(operations.find(conn, Filter(), newest=True, most=1), default=0) + 1
    click.echo("\nsending signed deliveries of Twilio, Vapi, Dialpad and the voice agent:\n")
    command = [sys.executable, "-P", "-m", "receiver", "send", "--tour", "--json", "--to", url]
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, **children.ended_with_us(signal.SIGTERM)
    ) as tour:
        assert tour.stdout is not None  # noqa: S101 - a pipe, see above
        for line in tour.stdout:
            _print_answer(json.loads(line), tally)
            _print_outcomes(conn, first, tally)
            if stopping.is_set():
                tour.terminate()
    until = time.monotonic() + SECONDS
    while operations.counts(conn).unprocessed and time.monotonic() < until and not stopping.wait(0.1):
        _print_outcomes(conn, first, tally)
    _print_outcomes(conn, first, tally)
    return tally


def _print_answer(row: dict[str, Any], tally: Tally) -> None:
    tally.sent += 1
    tally.refused += row["status"] == 401
    tally.repeated += row["note"].startswith("a duplicate")
    note = f"  ({row['note']})" if row["note"] else ""
    click.echo(f"  POST  {row['source']:<13} {row['event_type']:<20} {row['status']} in {row['ms']:.0f} ms{note}")


def _print_outcomes(conn: Connection, first: int, tally: Tally) -> None:
    """Print the events that ended or failed since the last time."""
    last = max(operations.find(conn, Filter(), newest=True, most=1), default=0)
    ids = [event for event in range(first, last + 1) if tally.ended.get(event) in (None, "retrying")]
    for row in reversed(operations.describe(conn, ids)):
        result = row["outcome"] or row["state"]
        if result == "waiting" or result == tally.ended.get(row["id"]):
            continue
        tally.retried += result == "retrying"
        tally.ended[row["id"]] = result
        words = {
            "handled": f"handled at attempt {row['attempts']}",
            "retrying": f"failed ({row['last_error']}); again in 5 s",
            "no_handler": "no handler is registered for it; kept, and replayable",
            "dead": f"dead letter: {row['last_error']}",
        }
        click.echo(
            f"        {row['source']:<13} {row['event_type']:<20} event {row['id']}: {words.get(result, result)}"
        )


def _check(tally: Tally, logs: Path) -> None:
    """Say what the samples came to. Raises DemoFailed unless each of the demo's troubles ended as it should."""
    found = tally.summary()
    click.echo("\n" + ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in found.items()))
    expected = {"refused": 1, "duplicates": 1, "retried": 1, "no_handler": 1, "dead": 1}
    wrong = [f"{name} {found[name]}, not {count}" for name, count in expected.items() if found[name] != count]
    if found["stored"] != found["sent"] - found["refused"] - found["duplicates"]:
        wrong.append(f"stored {found['stored']}")
    if found["handled"] != found["stored"] - found["no_handler"] - found["dead"]:
        wrong.append(f"handled {found['handled']}")
    if wrong:
        raise DemoFailed(f"expected otherwise: {', '.join(wrong)}; see {logs}")


def _explain(conn: Connection, environ: dict[str, str], url: str, psql: str, logs: Path) -> None:
    """Print what to do next: the URLs, the database, a signed curl, a replaying UPDATE."""
    run = [sys.executable, "-P", "-m", "receiver"]
    urls = subprocess.run([*run, "sources"], env=environ, capture_output=True, text=True, check=True).stdout
    curl = subprocess.run(
        [*run, "send", "agent", "call.answered", "--id", "rem_1", "--curl", "--to", url],
        env=environ, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    (dead,) = operations.find(conn, Filter(state="dead"), newest=True, most=1)
    dsn = environ["DATABASE_URL"]
    update = f"UPDATE webhook_events SET processed_at = NULL WHERE id = {dead}"  # noqa: S608 - for a person to run
    replay = " ".join(map(shlex.quote, [psql, dsn, "-c", update]))
    click.echo("\nreceiver:")
    for line in urls.splitlines():
        click.echo(f"  {line.replace(chr(9), '  ')}")
    click.echo("\nfor commands of your own in another terminal:")
    for name in ("DATABASE_URL", "BASE_URL", *SECRETS):
        click.echo(f"  export {name}={shlex.quote(environ[name])}")
    click.echo(f"\ntry a signed delivery:\n  {curl}")
    click.echo(f"\nreplay the dead letter, with plain SQL:\n  {replay}")
    command = Path(sys.executable).with_name("processor")
    click.echo(f"\nand look at what became of it:\n  {command} status\n  {command} events show {dead}")
    click.echo(f"\nlogs: {logs}\nCtrl-C stops everything and keeps the data; --fresh starts anew.")


@contextmanager
def _signals(stopping: threading.Event) -> Iterator[None]:
    """Set *stopping* on SIGINT and SIGTERM, so that every child is stopped in order."""
    before = {number: signal.signal(number, lambda *_: stopping.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
