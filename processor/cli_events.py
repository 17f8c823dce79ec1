"""The commands that look at events: list, show, tail."""

import sys
from typing import Any

import click

from processor import operations, output, tail
from processor.command import INTERRUPTED, connection, json_option, nothing
from processor.operations import Filter, Row
from processor.options import ID, chosen, filter_options, limit_option, state_option

COLUMNS = ["id", "source", "event_type", "subject", "state", "outcome", "attempts", "age", "last_error"]
# Of a followed tail: its lines come one by one, so nothing can be aligned with what is yet to come.
WIDTHS = {"received_at": 25, "id": 8, "source": 13, "event_type": 20, "subject": 30, "state": 9}
TIMELINE = ["replays", "attempt", "at", "what", "took", "worker", "handler", "handler_version", "detail"]
FIRST = ["id", "state"]
APART = ("headers", "body", "payload", "body_sha256")


@click.group()
def events() -> None:
    """List events, show one, or watch them come in."""


@events.command("list")
@click.argument("ids", nargs=-1, type=ID)
@filter_options
@state_option
@limit_option
@json_option
def events_list(ids: tuple[int, ...], limit: int, *, as_json: bool, **values: Any) -> None:
    """List events, newest first."""
    list_newest(chosen(ids, values), limit, as_json=as_json)


@events.command("show")
@click.argument("event", type=ID, metavar="ID")
@click.option("--raw", is_flag=True, help="Print the stored body's bytes, and nothing else.")
@json_option
def events_show(event: int, *, raw: bool, as_json: bool) -> None:
    """Show everything kept of one event: its state, its attempts and replays in order, headers and payload.

    behind: the earlier event of its subject that holds it back. paused: what it waits for, see `processor resume`.
    Of attempts, those that failed are kept, and the success after the last replay.
    """
    with connection() as conn:
        row = operations.show(conn, event)
        timeline = operations.timeline(conn, row) if row else []
    if row is None:
        nothing(f"no event {event}")
    elif raw:
        sys.stdout.buffer.write(row["body"])
    elif as_json:
        click.echo(output.json_line({**row, "timeline": timeline}))
    else:
        # An event that is done or dead has no next attempt, whatever the column holds.
        apart = (*FIRST, *APART) if row["state"] in ("waiting", "retrying") else (*FIRST, *APART, "next_attempt_at")
        output.fields(row, [*FIRST, *(name for name in row if name not in apart)])
        if timeline:
            click.echo()
            output.rows([_readable(happened) for happened in timeline], TIMELINE, as_json=False)
            click.echo()
        output.fields({"body_bytes": len(row["body"]), "headers": row["headers"]}, ["body_bytes", "headers"])
        click.echo(output.printable_json(row["payload"]))


@events.command("tail")
@filter_options
@state_option
@click.option("-n", "--lines", type=click.IntRange(0, 10000), default=10, show_default=True, help="Newest so many.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes in, until Ctrl-C.")
@json_option
def events_tail(lines: int, *, follow: bool, as_json: bool, **values: Any) -> None:
    """Print the newest events, the newest last, and with -f those that come in.

    \b
    processor events tail -f --source twilio
    processor events tail -f --json --type call.completed | jq .subject

    Each event is printed once, as soon as its insert is committed, so ids need not ascend: one that was committed
    up to a minute late is not missed. A filter by state or error takes what the event is when it comes in.
    """  # noqa: D301 - the character, not its escape, keeps click from filling the lines
    wanted = chosen((), values)
    try:
        with connection() as conn:
            if not follow:
                _print(tail.newest(conn, wanted, lines), as_json=as_json)
                return
            for rows in tail.follow(conn, wanted, lines):
                _print(rows, as_json=as_json)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def list_newest(wanted: Filter, limit: int, *, as_json: bool) -> None:
    """Print the events that match, newest first; end the command when there is none."""
    with connection() as conn:
        found = operations.describe(conn, operations.find(conn, wanted, newest=True, most=limit))
    if not found:
        nothing("no event matches")
    output.rows(found, COLUMNS, as_json=as_json)
    if len(found) == limit:
        click.echo(f"the newest {limit}; --limit shows more", err=True)


def _print(rows: list[Row], *, as_json: bool) -> None:
    for row in rows:
        click.echo(output.json_line(row) if as_json else output.line(row, WIDTHS))


def _readable(happened: Row) -> Row:
    """Return a row of the timeline as a table has it: durations with units, and in detail whatever is text."""
    by = f"by {happened['who']}: {happened['reason']}".removesuffix(": ") if "who" in happened else ""
    return {**happened, "took": output.age(happened.get("seconds")), "detail": happened.get("error") or by}
