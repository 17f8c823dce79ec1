"""`receiver spool`: what waits on this machine for the database, and bringing it there for receivers that are gone."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from receiver.outage import view
from receiver.outage.slot import Place, abandoned, address_of, is_held, is_of, place
from sql import database
from sql.log import printable

NOTHING_MATCHED = 3
STATE = ("file", "live", "deliveries", "bytes", "oldest_age_seconds", "rejected")
ROW = ("id", "source", "event_type", "age_seconds", "bytes", "rejected", "event_id")


@click.group()
def spool() -> None:
    """Look into SPOOL_DIR, where a receiver keeps deliveries while the database is away.

    Its files are those of one machine, a file a receiver: run it where the receivers run, as their user.
    """


@spool.command()
@click.option("--json", "as_json", is_flag=True, help="JSON Lines instead of a table.")
def status(*, as_json: bool) -> None:
    """Tell how much waits in each file, how long, and what was rejected."""
    _print([view.state(path) for path in _files()], STATE, as_json=as_json)


@spool.command()
@click.option("--raw", "raw_id", metavar="ID", help="Write the body of one, such as slot-0/17, to stdout.")
@click.option("--json", "as_json", is_flag=True, help="JSON Lines instead of a table.")
def show(*, raw_id: str | None, as_json: bool) -> None:
    """List the events that wait, and those that were rejected with the reason."""
    files = _files()
    if raw_id is None:
        _print([row for path in files for row in view.rows(path)], ROW, as_json=as_json)
        return
    name, _, number = raw_id.partition("/")
    path = next((path for path in files if path.stem == name), None)
    body = view.body(path, int(number)) if path and number.isdigit() else None
    if body is None:
        click.echo(f"nothing is spooled as {raw_id!r}", err=True)
        sys.exit(NOTHING_MATCHED)
    sys.stdout.buffer.write(body)


@spool.command()
@click.argument("names", metavar="[FILE]...", nargs=-1)
@click.option("--rejected", is_flag=True, help="Also try again what was rejected.")
def drain(*, names: tuple[str, ...], rejected: bool) -> None:
    """Bring to the database what receivers left that are gone; a live one brings its own as soon as it can.

    What was spooled for another DATABASE_URL is brought where its FILE is named, such as slot-0: when the
    database has moved.
    """
    dsn = database.dsn(os.environ, "inbox-cli")
    files = [path for path in _files() if not names or path.stem in names]
    if missing := set(names) - {path.stem for path in files}:
        raise click.UsageError(f"no such file: {', '.join(sorted(missing))}; see `receiver spool status`")
    for path in files:
        if is_held(path):
            click.echo(f"{path.stem}: a live receiver drains it")
        elif not names and not is_of(path, address_of(dsn)):
            click.echo(f"{path.stem}: of another DATABASE_URL; name it to bring it to this one")
    address = "" if names else address_of(dsn)
    for name, drained, left in asyncio.run(_drain(dsn, files, address, rejected=rejected)):
        click.echo(f"{name}: {drained} brought, {left} rejected")


async def _drain(dsn: str, files: list[Path], address: str, *, rejected: bool) -> list[tuple[str, int, int]]:
    # Imported here: the other commands need no driver.
    from receiver.metrics import Metrics  # noqa: PLC0415
    from receiver.outage.drain import Drain  # noqa: PLC0415
    from receiver.outage.spool import Spool  # noqa: PLC0415
    from receiver.outage.thread import SpoolThread  # noqa: PLC0415

    done = []
    for slot in abandoned(files[0].parent, address):
        if slot.path not in files:
            slot.free()
            continue
        thread = SpoolThread(Spool(slot.path))
        try:
            if rejected:
                await thread.call(thread.spool.restore)
            drained = await Drain(dsn, thread, asyncio.Event(), Metrics()).once() if not thread.empty else 0
            done.append((slot.path.stem, drained, thread.spool.rejected))
        finally:
            await thread.close()
            slot.free()
    return done


def _place() -> Place:
    try:
        dsn = database.dsn(os.environ, "inbox-cli")
    except database.NoDatabase:
        dsn = ""
    if (found := place(os.environ, dsn)) is None:
        click.echo("the spool is off", err=True)
        sys.exit(NOTHING_MATCHED)
    return found


def _files() -> list[Path]:
    directory = _place().directory
    if not (found := view.files(directory)):
        click.echo(f"no receiver has spooled in {directory}", err=True)
        sys.exit(NOTHING_MATCHED)
    return found


def _print(rows: list[dict[str, Any]], columns: tuple[str, ...], *, as_json: bool) -> None:
    if as_json:
        for row in rows:
            click.echo(json.dumps(row))
        return
    table = [list(columns), *([_cell(row, name) for name in columns] for row in rows)]
    aligned = sys.stdout.isatty()
    widths = [max(map(len, column)) if aligned else 0 for column in zip(*table, strict=True)]
    for cells in table:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        click.echo(("  " if aligned else "\t").join(padded).rstrip())


def _cell(row: Mapping[str, Any], name: str) -> str:
    value = row[name]
    return "-" if value is None else "yes" if value is True else "no" if value is False else printable(str(value))
