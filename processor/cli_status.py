"""`processor status`: what waits, what is dead, what is held back; and whether that is too much."""

import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import click
from psycopg import Connection

from processor import operations, output, pauses
from processor.cli_pause import print_pauses
from processor.command import INTERRUPTED, OVER_THRESHOLD, connection, json_option
from processor.options import Duration

HEADLINE = ["oldest", "unprocessed", "due", "retrying", "dead", "processed_last_hour"]
TOTALS = ["unprocessed", "processed", "event_types", "oldest_unprocessed"]
BY_TYPE = ["source", "event_type", "unprocessed", "due", "retrying", "dead", "processed_last_hour", "oldest"]
BREAKERS = ["handler", "failures", "opened_at", "probe_at", "last_error"]

Status = dict[str, Any]


@click.command()
@click.option("--watch", is_flag=True, help="Print again every --interval seconds, until Ctrl-C.")
@click.option("--interval", type=click.FloatRange(min=0.2), default=2.0, show_default=True, help="Seconds.")
@click.option(
    "--fail-if-oldest",
    type=Duration(),
    metavar="AGE",
    help="Exit 4 where an event has waited for 60s, 15m or longer.",
)
@click.option("--fail-if-dead", type=click.IntRange(min=1), metavar="N", help="Exit 4 where N events or more are dead.")
@click.option("--totals", is_flag=True, help="Count the whole history as well: reads the whole table.")
@json_option
def status(  # noqa: PLR0913 - one argument an option
    *,
    watch: bool,
    interval: float,
    fail_if_oldest: timedelta | None,
    fail_if_dead: int | None,
    totals: bool,
    as_json: bool,
) -> None:
    """Show what waits, what is retried, what is dead, how old the oldest is, and what is paused or keeps failing.

    \b
    processor status --watch
    processor status --fail-if-oldest 60s --fail-if-dead 1    for Nagios, cron or a container's health check
    """  # noqa: D301 - the character, not its escape, keeps click from filling the lines
    try:
        with connection() as conn:
            while True:
                found = read(conn, totals=totals)
                if as_json:
                    click.echo(output.json_line(found))
                else:
                    if watch and sys.stdout.isatty():
                        click.clear()
                    _print(found)
                faults = list(_over(found, fail_if_oldest, fail_if_dead))
                for fault in faults:
                    click.echo(fault, err=True)
                if faults:
                    sys.exit(OVER_THRESHOLD)
                if not watch:
                    return
                time.sleep(interval)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def read(conn: Connection, *, totals: bool = False) -> Status:
    """Return the headline figures, and lists under by_type, pauses and breakers; those of the history under totals."""
    return {
        **asdict(operations.counts(conn)),
        **({"totals": asdict(operations.totals(conn))} if totals else {}),
        "by_type": operations.counts_by_type(conn),
        "pauses": pauses.pauses(conn),
        "breakers": operations.breakers(conn),
    }


def _over(found: Status, oldest: timedelta | None, dead: int | None) -> Iterator[str]:
    """Yield what is too much, in words."""
    age = found["oldest_seconds"]
    if oldest is not None and age is not None and age >= oldest.total_seconds():
        yield f"the oldest event waits for {output.age(age)}; --fail-if-oldest is {output.age(oldest.total_seconds())}"
    if dead is not None and found["dead"] >= dead:
        yield f"{found['dead']} dead; --fail-if-dead is {dead}"


def _print(found: Status) -> None:
    output.fields({**found, "oldest": output.age(found["oldest_seconds"])}, HEADLINE)
    if "totals" in found:
        click.echo()
        output.fields(found["totals"], TOTALS)
    if found["by_type"]:
        click.echo()
        by_type = [{**row, "oldest": output.age(row["oldest_seconds"])} for row in found["by_type"]]
        output.rows(by_type, BY_TYPE, as_json=False)
    if found["pauses"]:
        click.echo()
        print_pauses(found["pauses"], as_json=False)
    if found["breakers"]:
        click.echo()
        output.rows(found["breakers"], BREAKERS, as_json=False)
