"""The commands about the tables: make them, inspect them."""

from dataclasses import asdict
from importlib import resources

import click

from processor import migrations, output
from processor.command import connection, json_option


@click.group()
def db() -> None:
    """Make and inspect the tables."""


@db.command("migrate")
def db_migrate() -> None:
    """Apply the migrations that are pending. Safe to run from several machines at once."""
    with connection() as conn:
        applied = migrations.migrate(conn)
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
