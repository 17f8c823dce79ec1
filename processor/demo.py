"""The whole inbox on one machine, with nothing installed: database, receiver, processor, a tour of the five systems.

The receiver runs as the command it is, in a process of its own: this room imports nothing of it.
"""

import json
import os
import secrets
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
from pathlib import Path

import click
import psycopg
from psycopg import Connection

from processor import children, migrations, operations, postgres, registry
from processor.demo_stories import STORIES
from processor.demo_tour import Tour
from processor.operations import Filter
from sql import database

PORT = 8000  # preferred; the next free one otherwise
# Known to everybody, for a receiver on loopback that holds nothing but samples.
SECRETS = {
    "TWILIO_AUTH_TOKEN": "demo-twilio-auth-token-0123456789",
    "VAPI_WEBHOOK_SECRET": "demo-vapi-secret-0123456789abcdef",
    "DIALPAD_WEBHOOK_SECRET": "demo-dialpad-secret-0123456789abc",
    "WEBHOOK_SECRET": "demo-agent-secret-0123456789abcde",
}
# Settings of another receiver and processor.
NOT_OURS = ("WEBHOOK_SOURCES", "HANDLERS", "DIALOGUE_URL", "IGNORE_UNKNOWN_CALLS")


class DemoFailed(Exception):
    """The demo can't start, or didn't do what it shows; the message says what to do or to read."""


def demo(data_dir: Path, own_handlers: tuple[str, ...], *, fresh: bool, leave: bool) -> bool:
    """Start everything, send the samples, tell what became of each, and stay until a signal (unless *leave*).

    Returns whether it got so far: False when a signal came before all samples were handled.
    *data_dir* holds the private PostgreSQL; logs are kept beside it. *own_handlers*: modules to run beside those that
    ship. Raises DemoFailed, postgres.Unavailable, database.NoDatabase, registry.BadHandlers. Leaves no process behind.
    """
    if own_handlers:
        registry.load(own_handlers)
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
            environ = {name: value for name, value in os.environ.items() if name not in NOT_OURS}
            environ |= {**SECRETS, "DATABASE_URL": dsn, "BASE_URL": url, "SPOOL_DIR": "off"}
            receiver = ["receiver", "run", "--host", "127.0.0.1", "--port", str(port)]
            handlers = [f"--handlers={name}" for name in ("handlers", "processor.demo_handlers", *own_handlers)]
            running = {
                "receiver": _start(stack, receiver, environ, logs / "receiver.log"),
                "processor": _start(stack, ["processor", "run", "--interval", "1", *handlers], environ,
                                    logs / "processor.log"),
            }  # fmt: skip
            _await_ready(url, running, logs, stopping)
            tour = Tour(conn, secrets.token_hex(16), stopping)
            _take(tour, environ, url, stopping)
            if stopping.is_set():
                return False
            _check(tour, logs, strict=not own_handlers)
            if not leave:
                _explain(conn, tour, environ, psql, logs)
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


def _take(tour: Tour, environ: dict[str, str], url: str, stopping: threading.Event) -> None:
    """Send the tour and tell its stories, until a signal."""
    if not stopping.is_set():
        click.echo("\nas an application: writing two campaigns, three contacts, five reminders")
        click.echo("as Twilio, Vapi, Dialpad and our voice agent: sending signed deliveries ...")
        tour.send(environ, url)
    for number, story in enumerate(STORIES, 1):
        if not stopping.is_set():
            tour.tell(number, story)


def _check(tour: Tour, logs: Path, *, strict: bool) -> None:
    """Say what the samples came to. Raises DemoFailed, if *strict*, unless each ended as it should."""
    found = tour.figures()
    own = ", ".join(f"{count} {event_type}" for event_type, count in sorted(tour.own().items()))
    click.echo("\n" + ", ".join(f"{name} {count}" for name, count in found.items()))
    click.echo(f"answered in {tour.answer_ms():.0f} ms, median; handled besides, of the inbox's own: {own}")
    expected = {"refused": 1, "duplicates": 1, "retried": 1, "no handler": 1, "dead": 1}
    expected["stored"] = found["sent"] - 2
    expected["handled"] = expected["stored"] - 2
    wrong = [f"{name} {found[name]}, not {count}" for name, count in expected.items() if found[name] != count]
    if wrong and strict:
        raise DemoFailed(f"expected otherwise: {', '.join(wrong)}; see {logs}")


def _explain(conn: Connection, tour: Tour, environ: dict[str, str], psql: str, logs: Path) -> None:
    """Print what to do next: the URLs, the database, a signed curl, a replaying UPDATE."""
    click.echo("\nreceiver, each source's first URL:")
    for line in _receiver(environ, "sources", "--json").splitlines():
        source = json.loads(line)
        click.echo(f"  {source['source']:<15} {source['urls'][0]}")
    click.echo("\nfor commands of your own in another terminal:")
    for name in ("DATABASE_URL", "BASE_URL", *SECRETS):
        click.echo(f"  export {name}={shlex.quote(environ[name])}")
    talking = ["send", "agent", "call.completed", "--id", tour.talking, "--to", environ["BASE_URL"], "--curl"]
    curl = _receiver(environ, *talking)
    click.echo(
        f"\ntry a signed delivery: the call that is still talking ends, and its reminder is completed:\n  {curl}"
    )
    command = Path(sys.executable).with_name("processor")
    for dead in operations.find(conn, Filter(state="dead"), newest=True, most=1):
        update = f"UPDATE webhook_events SET processed_at = NULL WHERE id = {dead}"  # noqa: S608 - for a person to run
        replay = shlex.join([psql, environ["DATABASE_URL"], "-c", update])
        click.echo(f"\nreplay the dead letter, with plain SQL:\n  {replay}")
        click.echo(f"\nand look at what became of it:\n  {command} status\n  {command} events show {dead}")
    click.echo(f"\nlogs: {logs}\nCtrl-C stops everything and keeps the data; --fresh starts anew.")


def _receiver(environ: dict[str, str], *arguments: str) -> str:
    """Return what a command of the receiver's prints."""
    command = [sys.executable, "-P", "-m", "receiver", *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout.strip()


@contextmanager
def _signals(stopping: threading.Event) -> Iterator[None]:
    """Set *stopping* on SIGINT and SIGTERM, so that every child is stopped in order."""
    before = {number: signal.signal(number, lambda *_: stopping.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
