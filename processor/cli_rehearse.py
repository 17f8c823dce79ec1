"""What `replay --rehearse` prints."""

import os
import sys
from functools import partial
from typing import Any

import click
import psycopg

from processor import output
from processor.command import FAILED, INTERRUPTED, number, until_signal
from processor.rehearse import Rehearsal, rehearse
from sql import database

WIDTHS = {"id": 8, "event_type": 20, "result": 10, "took": 7, "rows": 30, "error": 0}


def rehearse_all(ids: list[int], *, as_json: bool) -> None:
    """Rehearse these events and print a line each; exit 1 where one would fail, 130 after Ctrl-C."""
    connect = partial(psycopg.connect, database.dsn(os.environ, "inbox-rehearsal"), **database.CONNECT)
    stopping, done, failed = until_signal(), 0, 0
    for one in rehearse(connect, ids):
        click.echo(output.json_line(one.row) if as_json else output.line(_readable(one), WIDTHS))
        done += 1
        failed += one.result in ("retry", "dead")
        if stopping.is_set():
            break
    click.echo(f"{number(done)} rehearsed, {failed} would fail; nothing was changed", err=True)
    sys.exit(INTERRUPTED if stopping.is_set() and done < len(ids) else FAILED if failed else 0)


def _readable(one: Rehearsal) -> dict[str, Any]:
    """Return what a line has of a rehearsal; +: rows inserted, ~: updated, -: deleted."""
    tables = [f"{table.name} +{table.inserted} ~{table.updated} -{table.deleted}" for table in one.touched]
    not_run = [f"{name} not run" for name in one.not_run]
    took = output.age(one.seconds)
    return {**one.row, "took": took, "rows": ", ".join([*tables, *not_run]), "error": one.error or ""}
