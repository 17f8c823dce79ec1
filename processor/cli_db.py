"""The commands about the tables: make them, inspect them, and keep them from growing for ever."""

import sys
from dataclasses import asdict
from datetime import timedelta
from importlib import resources

import click
from psycopg import errors

from processor import migrations, output, prune
from processor.command import INTERRUPTED, connection, json_option, number, until_signal
from processor.options import Duration
from processor.prune import Ages, Prune


@click.group()
def db() -> None:
    """Make and inspect the tables, and prune them."""


@db.command("migrate")
def db_migrate() -> None:
    """Apply the migrations that are pending. Safe to run from several machines at once."""
    try:
        with connection() as conn:
            applied = migrations.migrate(conn)
    except errors.LockNotAvailable:
        raise click.ClickException(
            "an older transaction holds one of the tables, so nothing was changed; `processor doctor` names it: "
            "end it, then run this again"
        ) from None
    for name in applied:
        click.echo(f"applied {name}", err=True)
    if not applied:
        click.echo("nothing to do: the schema is current", err=True)


@db.command("status")
@json_option
def db_status(*, as_json: bool) -> None:
    """List the migrations and when each was applied here."""
    with connection() as conn:
        found = [asdict(state) for state in migrations.status(conn)]
    output.rows(found, ["version", "name", "applied_at", "changed"], as_json=as_json)


@db.command("sql")
@click.option("--grants", is_flag=True, help="The roles of least privilege instead.")
def db_sql(*, grants: bool) -> None:
    """Print the schema as SQL, for a DBA to read or run."""
    if grants:
        click.echo(resources.files("sql").joinpath("grant_roles.sql").read_text(encoding="utf-8"))
    else:
        click.echo(migrations.script())


@db.command("prune")
@click.option("--older-than", type=Duration(), metavar="AGE", help="Delete events processed longer ago: 90d, 12h.")
@click.option("--bodies-older-than", type=Duration(), metavar="AGE", help="Empty events processed longer ago: 7d, 12h.")
@click.option("--tombstones-older-than", type=Duration(), metavar="AGE",
              help="Forget the keys of events deleted longer ago. Default: never.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@json_option
def db_prune(
    *,
    older_than: timedelta | None,
    bodies_older_than: timedelta | None,
    tombstones_older_than: timedelta | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Delete processed events after some time, and what the provider sent with them earlier.

    \b
    processor db prune --older-than 90d --dry-run
    processor db prune --older-than 90d --bodies-older-than 7d

    Never an event that is unprocessed or dead (`processor dead purge` does that). It asks nothing, so that cron can
    run it, works in small commits beside the traffic, and can be stopped and run again at any time. An event without
    its body can't be replayed. A repeated delivery is known as one whatever was removed: of a deleted event the key
    is kept, some 200 bytes, until --tombstones-older-than.
    `processor run --prune-older-than` does the same every hour.
    """  # noqa: D301 - the character, not its escape, keeps click from filling the lines
    ages = ages_of(older_than, bodies_older_than, tombstones_older_than)
    if ages is None:
        raise click.UsageError("prune what? Give --older-than, --bodies-older-than or --tombstones-older-than")
    ended = True
    with connection() as conn:
        if dry_run:
            removed = prune.count(conn, ages)
        else:
            pruning = Prune(ages, until_signal())
            ended, removed = pruning.run(conn), pruning.removed
    if as_json:
        click.echo(output.json_line({**asdict(removed), "dry_run": dry_run, "ended": ended}))
    done = "would be" if dry_run else "were"
    click.echo(f"{number(removed.events)} and {removed.bodies} bodies {done} removed", err=True)
    if tombstones_older_than:
        click.echo(f"{removed.tombstones} tombstones {done} removed", err=True)
    if not ended:
        click.echo("stopped; the next prune goes on", err=True)
        sys.exit(INTERRUPTED)


def ages_of(events: timedelta | None, bodies: timedelta | None, tombstones: timedelta | None = None) -> Ages | None:
    """Return what retention was asked for; None where none was. Fails the command where it makes no sense."""
    if events and bodies and bodies >= events:
        raise click.UsageError("bodies must go before their events: the age of bodies has to be the shorter one")
    return Ages(events, bodies, tombstones) if events or bodies or tombstones else None
