"""The commands that change events: replay and skip, and what they share with `dead purge`.

Each says how many events it is about, asks where they are more than one, notes who did it and why, and goes
through them in chunks, between which it can be stopped.
"""

import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import click
from psycopg import Connection

from processor import actions, operations, output, registry
from processor.bulk import Bulk, Change
from processor.cli_rehearse import rehearse_all
from processor.command import INTERRUPTED, connection, json_option, nothing, number, until_signal
from processor.operations import Filter
from processor.options import (
    ID,
    change_options,
    chosen,
    filter_options,
    handlers_option,
    rate_option,
    state_option,
)

TYPE_THE_COUNT = 1000  # a change of more events than this is confirmed by typing their number


@dataclass(frozen=True)
class Verb:
    """What is done to events: its name, its past participle, and the change. always_ask: also for a single event."""

    name: str
    done: str
    change: Change
    always_ask: bool = False


@dataclass(frozen=True)
class Wish:
    """The options that commands which change events share; see options.change_options."""

    everything: bool
    reason: str
    dry_run: bool
    yes: bool
    as_json: bool


REPLAY = Verb("replay", "replayed", operations.replay)
SKIP = Verb("skip", "skipped", operations.skip)


@click.command()
@click.argument("ids", nargs=-1, type=ID)
@filter_options
@state_option
@change_options("replay", "replayed")
@rate_option
@click.option("--rehearse", "rehearsing", is_flag=True, help="Run the handlers, roll back, and tell what they did.")
@handlers_option
@json_option
def replay(
    ids: tuple[int, ...], *, per_second: float | None, rehearsing: bool, modules: tuple[str, ...], **values: Any
) -> None:
    """Make events due again: processed ones, dead ones, and those that wait to be retried.

    \b
    processor replay 17
    processor replay --type call.completed --since 2h --dry-run
    processor replay --state dead --error ConnectionError --rate 20/s --reason "the CRM is back"
    processor replay --type call.completed --since 2h --rehearse --handlers mine

    The same as `UPDATE webhook_events SET processed_at = NULL WHERE ...`. Events go to today's handlers, their
    attempts start at 1, and effects of earlier runs are not undone: handlers must bear being run again. Events
    whose body retention has removed are left out. Ctrl-C stops after the chunk in hand, and says how to go on.

    --rehearse changes nothing: it runs the handlers here, an event at a time, each in a transaction that is rolled
    back, and prints what became of it and how many rows of which table it inserted (+), updated (~) and deleted (-).
    What handlers do outside the database is done; those registered with outside=True are not run. Exit 1 where an
    event would fail.
    """  # noqa: D301 - the character, not its escape, keeps click from filling the lines
    wish, wanted = take_wish(values), chosen(ids, values)
    if not rehearsing:
        apply(REPLAY, wanted, wish, per_second)
        return
    _check_filter(REPLAY, wish, unfiltered=wanted.empty)
    registry.load(modules)
    with connection() as conn:
        found = _find(conn, REPLAY, wanted)
    rehearse_all(found, as_json=wish.as_json)


@click.command()
@click.argument("ids", nargs=-1, type=ID)
@filter_options
@state_option
@change_options("skip", "skipped")
@json_option
def skip(ids: tuple[int, ...], **values: Any) -> None:
    """Close events without running their handlers. A replay revives them.

    \b
    processor skip 17
    processor skip --type call.ringing --until 2h --reason "too late to matter"

    The same as `UPDATE webhook_events SET processed_at = now() WHERE processed_at IS NULL AND ...`.
    """  # noqa: D301 - see above
    wish = take_wish(values)
    apply(SKIP, chosen(ids, values), wish)


def take_wish(values: dict[str, Any]) -> Wish:
    """Take a command's shared options out of *values*, and leave those that make a filter."""
    return Wish(**{name: values.pop(name) for name in Wish.__dataclass_fields__})


def apply(
    verb: Verb, wanted: Filter, wish: Wish, per_second: float | None = None, *, unfiltered: bool | None = None
) -> None:
    """Do it to the events that match, after saying to how many, and asking.

    *unfiltered* tells whether the person gave no filter, where the command itself has added one.
    """
    _check_filter(verb, wish, unfiltered=wanted.empty if unfiltered is None else unfiltered)
    with connection() as conn:
        now = operations.clock(conn)
        ids = _find(conn, verb, wanted)
        click.echo(f"{number(len(ids))} to {verb.name}", err=True)
        for row in operations.describe(conn, ids[-5:]):
            click.echo(f"  {row['id']}  {row['source']}  {row['event_type']}  {row['state']}", err=True)
        if wish.dry_run:
            return
        if (len(ids) > 1 or verb.always_ask) and not wish.yes:
            _confirm(len(ids), verb)
        stopping = until_signal()
        told = asdict(wanted) | {"ids": None, "per_second": per_second}
        action = actions.begin(conn, verb.name, told, reason=wish.reason, ids=ids)
        bulk = Bulk(verb.change, ids, action, per_second, stopping, _progress(len(ids), verb, per_second))
        ended = bulk.run(conn)
    if wish.as_json:
        click.echo(output.json_line({"action": str(action), "events": len(ids), verb.done: bulk.done, "ended": ended}))
    click.echo(f"{bulk.done} {verb.done}", err=True)
    if not ended:
        since = [] if wanted.since is None else ["--since", wanted.since.isoformat()]
        after = [] if not bulk.last else ["--after", str(bulk.last)]
        words = [*sys.argv[1:], *since, "--until", (wanted.until or now).isoformat(), *after]
        click.echo(f"stopped; go on with: processor {shlex.join(words)}", err=True)
        sys.exit(INTERRUPTED)


def _check_filter(verb: Verb, wish: Wish, *, unfiltered: bool) -> None:
    if unfiltered and not wish.everything:
        raise click.UsageError(f"{verb.name} which events? Give IDs or filters, or --all for every event there is")


def _find(conn: Connection, verb: Verb, wanted: Filter) -> list[int]:
    """Return the ids to change; end the command when there is none."""
    ids = operations.find(conn, wanted)
    if verb is SKIP:
        ids = [row["id"] for row in operations.describe(conn, ids) if row["state"] != "processed"]
    elif verb is REPLAY and (bodiless := operations.bodiless(conn, ids)):
        click.echo(f"{number(len(bodiless))} left out: retention has removed the body", err=True)
        ids = [identifier for identifier in ids if identifier not in bodiless]
    if not ids:
        nothing("no unprocessed event matches" if verb is SKIP else "no event matches")
    return sorted(ids)


def _confirm(count: int, verb: Verb) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError(f"{verb.name} of {number(count)} needs --yes where nobody can be asked")
    if count > TYPE_THE_COUNT:
        if click.prompt(f"Type {count} to {verb.name} them", err=True) != str(count):
            raise click.Abort
    else:
        click.confirm(f"{verb.name} {'them' if count > 1 else 'it'}?", abort=True, err=True)


def _progress(total: int, verb: Verb, per_second: float | None) -> Callable[[int], None]:
    """Return what tells on a terminal how far it got."""
    began = time.monotonic()

    def told(looked: int) -> None:
        speed = min(looked / max(time.monotonic() - began, 0.001), per_second or looked * 1000)
        left = output.age((total - looked) / speed)
        end = looked == total
        click.echo(f"\r{looked} of {total} {verb.done}, {speed:.0f}/s, {left} left ", nl=end, err=True)

    return told if sys.stderr.isatty() else lambda _: None
