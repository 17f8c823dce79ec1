"""The commands about events: list and show them, replay and skip them, look at the dead.

They share a filter, and whatever changes more than one event asks before it does.
"""

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from psycopg import Connection

from processor import operations, output
from processor.command import C, connection, json_option, nothing
from processor.operations import Filter

ID = click.IntRange(1, 2**63 - 1)
TYPE_THE_COUNT = 1000  # a change of more events than this is confirmed by typing their number


class Since(click.ParamType[datetime]):
    """A time: 90s, 15m, 2h, 7d ago, or ISO 8601 (UTC where it names no zone)."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time; fails the command with what was expected."""
        units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
        try:
            if value[-1:] in units and value[:-1].isdigit():
                return datetime.now(UTC) - timedelta(**{units[value[-1]]: int(value[:-1])})
            time = datetime.fromisoformat(value)
        except (ValueError, OverflowError):
            self.fail(f"expected 90s, 15m, 2h, 7d or 2026-11-20T10:00, got {value!r}", param, ctx)
        return time if time.tzinfo else time.replace(tzinfo=UTC)


def filter_options(command: C) -> C:
    """Add the options that make a Filter, and pass it as *chosen*."""
    states = click.Choice(["waiting", "retrying", "dead", "processed"])
    options = [
        click.option("--source", help="Only this source."),
        click.option("--type", "type_", help="Only this event type, such as call.completed."),
        click.option("--subject", help="Only this subject, such as call/CA...."),
        click.option("--state", type=states, help="Only events in this state."),
        click.option("--error", help="Only events whose last error contains this."),
        click.option("--since", type=Since(), help="Received since: 90s, 15m, 2h, 7d ago, or a time."),
        click.option("--until", type=Since(), help="Received before."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def change_options(verb: str, done: str) -> Callable[[C], C]:
    """Return a decorator that adds the options of a command that changes events."""
    options = [
        click.option("--all", "everything", is_flag=True, help=f"Allow a {verb} without any ID or filter."),
        click.option("--dry-run", is_flag=True, help=f"Say what would be {done}, and change nothing."),
        click.option("--yes", is_flag=True, help="Don't ask."),
    ]

    def add(command: C) -> C:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def chosen(ids: tuple[int, ...], values: dict[str, Any]) -> Filter:
    """Return the filter that the options of filter_options make."""
    values["type"] = values.pop("type_")
    return Filter(ids=list(ids) or None, **values)


@click.group()
def events() -> None:
    """List events, or show one."""


@events.command("list")
@click.argument("ids", nargs=-1, type=ID)
@filter_options
@click.option("--limit", type=click.IntRange(1, 10000), default=50, show_default=True, help="Newest so many.")
@json_option
def events_list(ids: tuple[int, ...], limit: int, *, as_json: bool, **values: Any) -> None:
    """List events, newest first."""
    _list(chosen(ids, values), limit, as_json=as_json)


@events.command("show")
@click.argument("event", type=ID, metavar="ID")
@click.option("--raw", is_flag=True, help="Print the stored body's bytes, and nothing else.")
@json_option
def events_show(event: int, *, raw: bool, as_json: bool) -> None:
    """Show everything kept of one event: its state, headers and payload."""
    with connection() as conn:
        row = operations.show(conn, event)
    if row is None:
        nothing(f"no event {event}")
    elif raw:
        sys.stdout.buffer.write(row["body"])
    elif as_json:
        click.echo(output.json_line(row))
    else:
        output.fields(row, [name for name in row if name not in ("headers", "body", "payload", "body_sha256")])
        output.fields({"body_bytes": len(row["body"]), "headers": row["headers"]}, ["body_bytes", "headers"])
        click.echo(output.printable_json(row["payload"]))


@click.command()
@click.argument("ids", nargs=-1, type=ID)
@filter_options
@change_options("replay", "replayed")
def replay(ids: tuple[int, ...], *, everything: bool, dry_run: bool, yes: bool, **values: Any) -> None:
    """Make events due again: processed ones, dead ones, and those that wait to be retried.

    The same as `UPDATE webhook_events SET processed_at = NULL WHERE ...`. Events go to today's handlers, their
    attempts start at 1, and effects of earlier runs are not undone: handlers must bear being run again.
    """
    _change(chosen(ids, values), operations.replay, "replay", everything=everything, dry_run=dry_run, yes=yes)


@click.command()
@click.argument("ids", nargs=-1, type=ID)
@filter_options
@change_options("skip", "skipped")
def skip(ids: tuple[int, ...], *, everything: bool, dry_run: bool, yes: bool, **values: Any) -> None:
    """Close events without running their handlers. A replay revives them.

    The same as `UPDATE webhook_events SET processed_at = now() WHERE processed_at IS NULL AND ...`.
    """
    _change(chosen(ids, values), operations.skip, "skip", everything=everything, dry_run=dry_run, yes=yes)


@click.group()
def dead() -> None:
    """Look at dead letters: events that are not attempted any more."""


@dead.command("list")
@filter_options
@click.option("--limit", type=click.IntRange(1, 10000), default=50, show_default=True, help="Newest so many.")
@json_option
def dead_list(limit: int, *, as_json: bool, **values: Any) -> None:
    """List dead letters and why they died. `processor replay ID` revives one."""
    values["state"] = "dead"
    _list(chosen((), values), limit, as_json=as_json)


def _list(chosen: Filter, limit: int, *, as_json: bool) -> None:
    with connection() as conn:
        found = operations.describe(conn, operations.find(conn, chosen, newest=True, most=limit))
    if not found:
        nothing("no event matches")
    columns = ["id", "source", "event_type", "subject", "state", "outcome", "attempts", "age", "last_error"]
    output.rows(found, columns, as_json=as_json)
    if len(found) == limit:
        click.echo(f"the newest {limit}; --limit shows more", err=True)


def _change(  # noqa: PLR0913
    chosen: Filter, change: Callable[[Connection, list[int]], int], verb: str,
    *, everything: bool, dry_run: bool, yes: bool,
) -> None:  # fmt: skip
    if chosen.empty and not everything:
        raise click.UsageError(f"{verb} which events? Give IDs or filters, or --all for every event there is")
    with connection() as conn:
        ids = operations.find(conn, chosen)
        if verb == "skip":
            ids = [row["id"] for row in operations.describe(conn, ids) if row["state"] != "processed"]
        if not ids:
            nothing("no event matches" if verb == "replay" else "no unprocessed event matches")
        click.echo(f"{len(ids)} event{'s' if len(ids) != 1 else ''} to {verb}", err=True)
        for row in operations.describe(conn, ids[-5:]):
            click.echo(f"  {row['id']}  {row['source']}  {row['event_type']}  {row['state']}", err=True)
        if dry_run:
            return
        if len(ids) > 1 and not yes:
            _confirm(len(ids), verb)
        done = change(conn, ids)
    click.echo(f"{done} {verb}ed" if verb != "skip" else f"{done} skipped", err=True)


def _confirm(count: int, verb: str) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError(f"{verb} of {count} events needs --yes where nobody can be asked")
    if count > TYPE_THE_COUNT:
        if click.prompt(f"Type {count} to {verb} them", err=True) != str(count):
            raise click.Abort
    else:
        click.confirm(f"{verb} them?", abort=True, err=True)
