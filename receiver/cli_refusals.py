"""`receiver refusals`: what the door refused, by source, status and cause."""

import json
import os
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click
import psycopg

from receiver.refusals import recent
from sql import database
from sql.log import printable

NOTHING_MATCHED = 3
AGE = re.compile("[0-9]{1,4}[smhd]")  # which PostgreSQL reads as an interval just so
COLUMNS = ("refused", "source", "status", "first_at", "last_at", "cause")


def age(_context: click.Context, _option: click.Parameter, given: str) -> str:
    """Return what was given if it is an age; else fail the command with what was expected."""
    if not AGE.fullmatch(given):
        raise click.BadParameter(f"expected 45s, 30m, 2h or 7d, got {given!r}")
    return given


@click.command()
@click.option("--since", default="7d", show_default=True, metavar="AGE", callback=age, help="45s, 30m, 2h, 7d ago.")
@click.option("--json", "as_json", is_flag=True, help="JSON Lines instead of a table.")
def refusals(*, since: str, as_json: bool) -> None:
    """List what was refused, by source, status and cause; what was refused last comes first.

    Counts are kept by day, in UTC: a day on which one was refused since then is counted whole. Source unknown is
    every path that is no source's. A running receiver adds to the counts every 5 seconds.
    """
    with psycopg.connect(database.dsn(os.environ, "inbox-cli"), **database.CONNECT) as conn:
        found = recent(conn, since)
    if not found:
        click.echo(f"nothing was refused since {since} ago", err=True)
        sys.exit(NOTHING_MATCHED)
    if as_json:
        for row in found:
            click.echo(json.dumps({name: _json(value) for name, value in row.items()}))
    else:
        _print([list(COLUMNS), *(_cells(row) for row in found)], aligned=sys.stdout.isatty())


def _print(table: list[list[str]], *, aligned: bool) -> None:
    widths = [max(map(len, column)) if aligned else 0 for column in zip(*table, strict=True)]
    for cells in table:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        click.echo(("  " if aligned else "\t").join(padded).rstrip())


def _cells(row: Mapping[str, Any]) -> list[str]:
    values = (row[name] for name in COLUMNS)
    return [
        value.astimezone().isoformat(sep=" ", timespec="seconds")
        if isinstance(value, datetime)
        else printable(str(value))
        for value in values
    ]


def _json(value: Any) -> Any:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value
