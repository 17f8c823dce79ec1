"""The commands about dead letters: list and group them, revive or delete them."""

from datetime import timedelta
from typing import Any

import click

from processor import operations, output
from processor.cli_change import REPLAY, Verb, apply, take_wish
from processor.cli_events import list_newest
from processor.command import connection, json_option, nothing
from processor.options import ID, Duration, change_options, chosen, filter_options, limit_option, rate_option

PURGE = Verb("purge", "purged", operations.purge, always_ask=True)
GROUP = ["events", "event_type", "reason", "oldest", "newest", "example"]


@click.group()
def dead() -> None:
    """Look at dead letters, events that are not attempted any more; revive or delete them."""


@dead.command("list")
@filter_options
@limit_option
@json_option
def dead_list(limit: int, *, as_json: bool, **values: Any) -> None:
    """List dead letters and why they died. `processor replay ID` revives one."""
    list_newest(chosen((), {**values, "state": "dead"}), limit, as_json=as_json)


@dead.command("groups")
@filter_options
@json_option
def dead_groups(*, as_json: bool, **values: Any) -> None:
    """Count dead letters by event type and reason, the largest group first.

    \b
    processor dead groups --since 1d
    processor dead replay --type call.completed --error ConnectionError

    The reason is how the error begins; what is quoted in it, its numbers and a worker's name are left out. example: its
    newest event.
    """  # noqa: D301 - the character, not its escape, keeps click from filling the lines
    with connection() as conn:
        ids = operations.find(conn, chosen((), {**values, "state": "dead"}))
        found = operations.dead_groups(conn, ids)
    if not found:
        nothing("no dead letter matches")
    output.rows(found, GROUP, as_json=as_json)


@dead.command("replay")
@click.argument("ids", nargs=-1, type=ID)
@filter_options
@change_options("replay", "replayed")
@rate_option
@json_option
def dead_replay(ids: tuple[int, ...], *, per_second: float | None, **values: Any) -> None:
    """Make dead letters due again: `processor replay --state dead`.

    \b
    processor dead replay --error ConnectionError --since 1d --rate 20/s --reason "the CRM is back"
    processor dead replay --all
    """  # noqa: D301 - see above
    wish = take_wish(values)
    unfiltered = chosen(ids, {**values}).empty
    apply(REPLAY, chosen(ids, {**values, "state": "dead"}), wish, per_second, unfiltered=unfiltered)


@dead.command("purge")
@click.argument("ids", nargs=-1, type=ID)
@filter_options
@click.option("--older-than", type=Duration(), metavar="AGE", help="Only those dead for longer than 30d, 12h, ...")
@change_options("purge", "purged")
@json_option
def dead_purge(ids: tuple[int, ...], *, older_than: timedelta | None, **values: Any) -> None:
    """Delete dead letters for good: body, attempts and all. Nothing brings them back.

    \b
    processor dead purge --older-than 30d --dry-run
    processor dead purge --type call.ringing --error Discard --older-than 7d

    A delivery of the same event after that is answered as a duplicate, and not handled: its key stays. To keep the
    record and close the event, use `processor skip`.
    """  # noqa: D301 - see above
    wish = take_wish(values)
    unfiltered = older_than is None and chosen(ids, {**values}).empty
    if not wish.dry_run:
        click.echo("this deletes for good", err=True)
    wanted = chosen(ids, {**values, "state": "dead", "dead_for": older_than})
    apply(PURGE, wanted, wish, unfiltered=unfiltered)
