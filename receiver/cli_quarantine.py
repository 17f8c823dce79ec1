"""`receiver quarantine`, `explain` and `release`: what was refused, why, and letting in what is genuine after all."""

import getpass
import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import psycopg
from psycopg import Connection

from receiver import quarantine, request_file
from receiver.delivery import Delivery
from receiver.explain import Explanation, explain
from receiver.insert import Unavailable
from receiver.quarantine import Held, shown
from receiver.settings import Source, source_of, sources_from
from sql import database
from sql.log import printable

NOTHING_MATCHED, UNAVAILABLE = 3, 69
COLUMNS = ("id", "received_at", "source", "method", "target", "body_bytes", "released_at", "cause")
ID = click.IntRange(min=1)


@click.group("quarantine")
def held() -> None:
    """List and show the refused deliveries that are kept, if the receiver runs with QUARANTINE=on."""


@held.command("list")
@click.option("--source", help="Only of this source; unknown: of paths that are no source's.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="JSON Lines instead of a table.")
def held_list(*, source: str | None, limit: int, as_json: bool) -> None:
    """List them, the newest first. A running receiver writes them every 5 seconds."""
    with _connection() as conn:
        found = quarantine.listed(conn, source, limit)
    if not found:
        click.echo("nothing is in quarantine (the receiver keeps refused deliveries with QUARANTINE=on)", err=True)
        sys.exit(NOTHING_MATCHED)
    for one in found:
        row = shown(one)
        click.echo(_json(row) if as_json else "\t".join(_cell(row[name]) for name in COLUMNS))


@held.command("show")
@click.argument("identifier", type=ID, metavar="ID")
@click.option("--raw", is_flag=True, help="The request itself, personal data included, as `explain --file` takes it.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
def held_show(*, identifier: int, raw: bool, as_json: bool) -> None:
    """Show one, without its body, its signature and the values in its URL."""
    with _connection() as conn:
        one = _found(conn, identifier)
    if raw:
        lines = [f"{one.method} {one.target} HTTP/1.1", *(f"{name}: {value}" for name, value in one.headers.items())]
        sys.stdout.buffer.write("\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + one.body)
    elif as_json:
        click.echo(_json(shown(one)))
    else:
        row = shown(one)
        headers = row.pop("headers")
        for name, value in [*row.items(), *headers.items()]:
            click.echo(f"{printable(name):<22} {_cell(value)}")


@click.command("explain")
@click.argument("identifier", type=ID, required=False, metavar="[ID]")
@click.option("--file", "file", metavar="PATH", help="A request saved as HTTP's text; - is stdin.")
@click.option("--source", "name", help="The source it was meant for, where its path doesn't tell.")
@click.option(
    "--at", type=click.DateTime(["%Y-%m-%dT%H:%M:%S%z"]), help="When the --file's request came. Default: now."
)
def explain_one(*, identifier: int | None, file: str | None, name: str | None, at: datetime | None) -> None:
    """Say why a delivery was not proven, by trying what may have happened to it against the configured secrets.

    \b
    receiver explain                          the newest in quarantine
    receiver explain 17
    receiver explain --file request.http      start line, headers, empty line, body

    It prints no secret and no signature. Exit 0: explained, or it proves genuine; 1: no explanation was found.
    """  # noqa: D301 - the character, not its escape, keeps click from filling the lines
    if file and identifier:
        raise click.UsageError("give an ID or --file, not both")
    sources = sources_from(os.environ)
    if file:
        delivery, odd = _read(file)
        came = (at or datetime.now(UTC)).timestamp()
        chosen = source_of(delivery.target, sources)
    else:
        with _connection() as conn:
            one = _found(conn, identifier) if identifier else next(iter(quarantine.listed(conn, None, 1)), None)
        if one is None:
            click.echo("nothing is in quarantine; give --file request.http", err=True)
            sys.exit(NOTHING_MATCHED)
        delivery, came = one.delivery(""), one.received_at.timestamp()
        odd = [f"delivery {one.id}, refused: {one.cause}"]
        odd += [] if one.whole else [f"only {len(one.body)} of {one.body_bytes} bytes of its body were kept"]
        chosen = source_of(delivery.target, sources)
    chosen = _named(name, sources) if name else chosen
    for words in odd:
        click.echo(printable(words), err=True)
    sys.exit(_tell(explain(delivery, chosen, sources, came), chosen, delivery))


@click.command("release")
@click.argument("ids", nargs=-1, required=True, type=ID, metavar="ID...")
@click.option("--force", metavar="REASON", help="Let it in unproven; kept in verified_by with your name.")
def release(*, ids: tuple[int, ...], force: str | None) -> None:
    """Verify deliveries in quarantine again, by today's configuration, and store those that prove genuine.

    A signed time is held against the time when the delivery came. One that is stored already is a duplicate, as at
    the door. Exit 1 if one was not released.
    """
    # Imported here: the other commands need nothing of the server.
    from receiver.release import release as release_each  # noqa: PLC0415

    if force is not None and not force.strip():
        raise click.UsageError("--force: expected a reason, such as --force 'the agent lost its secret'")
    sources = sources_from(os.environ)
    forced = f"released by {getpass.getuser()}@{socket.gethostname()}: {force.strip()}" if force else ""
    dsn, refused = database.dsn(os.environ, "inbox-cli"), False
    try:
        with psycopg.connect(dsn, **database.CONNECT) as conn:
            for outcome in release_each(conn, dsn, ids, sources, forced):
                refused = refused or not outcome.released
                click.echo(f"{outcome.id}\t{'released' if outcome.released else 'kept'}\t{printable(outcome.words)}")
    except Unavailable as error:
        click.echo(f"error: not stored: {error}", err=True)
        sys.exit(UNAVAILABLE)
    sys.exit(1 if refused else 0)


def _tell(told: Explanation, source: Source | None, delivery: Delivery) -> int:
    where = f"source {source.name}" if source else "no source"
    click.echo(printable(f"{where}: {delivery.method} {delivery.target.partition('?')[0]}, {len(delivery.body)} bytes"))
    if told.proven_by:
        click.echo(f"genuine: proven by {printable(told.proven_by)}")
        return 0
    for words in told.found:
        click.echo(words)
    if not told.found:
        click.echo(
            "no explanation: by none of the configured secrets, public URLs and usual changes would it be proven"
        )
        return 1
    return 0


def _read(file: str) -> tuple[Delivery, list[str]]:
    try:
        return request_file.read(sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes())
    except OSError as error:
        raise click.UsageError(f"--file: can't read {file!r}: {error.strerror}") from None
    except request_file.NoRequest as error:
        raise click.UsageError(f"--file: {error}") from None


def _named(name: str, sources: tuple[Source, ...]) -> Source:
    for source in sources:
        if source.name == name:
            return source
    raise click.UsageError(f"no source {name!r}; on are {', '.join(source.name for source in sources)}")


@contextmanager
def _connection() -> Iterator[Connection]:
    with psycopg.connect(database.dsn(os.environ, "inbox-cli"), **database.CONNECT) as conn:
        yield conn


def _found(conn: Connection, identifier: int) -> Held:
    one = quarantine.found(conn, identifier)
    if one is None:
        click.echo(f"no delivery {identifier} in quarantine (any more)", err=True)
        sys.exit(NOTHING_MATCHED)
    return one


def _json(row: Mapping[str, Any]) -> str:
    return json.dumps(
        {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}
    )


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return "-" if value is None else printable(str(value))
