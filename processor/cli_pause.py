"""The commands that hold a source or a type back, and let it go; and the list of what was done by commands."""

from datetime import timedelta
from typing import Any

import click

from processor import actions, output, pauses
from processor.command import connection, json_option, nothing
from processor.options import Duration, limit_option
from processor.pauses import Target

COLUMNS = ["paused", "until", "waiting", "paused_at", "reason"]
ACTIONS = ["id", "started_at", "verb", "who", "events", "done", "chosen", "reason"]


class What(click.ParamType[Target]):
    """source=NAME or type=NAME."""

    name = "target"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Target:
        """Return the target; fails the command with what was expected."""
        try:
            return Target.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.argument("targets", nargs=-1, type=What(), metavar="[source=NAME|type=NAME]...")
@click.option("--for", "duration", type=Duration(), metavar="DURATION", help="Resume by itself after 45s, 30m, 2h, ...")
@click.option("--reason", default="", help="Why; shown in `processor status`.")
@json_option
def pause(targets: tuple[Target, ...], duration: timedelta | None, reason: str, *, as_json: bool) -> None:
    """Handle no events of a source or type for now; without any, list what is paused.

    \b
    processor pause source=twilio --for 30m --reason "the CRM is being moved"
    processor pause type=call.ringing type=call.answered
    processor pause

    The receiver goes on storing them, and they are handled when the pause ends. What is in hand is finished. Pausing
    again sets the end and the reason anew. A name that no event has had lately is paused as well, with a warning.
    """  # noqa: D301 - the character, not its escape, keeps click from filling the lines
    if not targets and (duration or reason):
        raise click.UsageError("pause what? Give source=NAME or type=NAME")
    with connection() as conn:
        if targets:
            pauses.pause(conn, list(targets), duration, reason)
            for target in pauses.unknown(conn, list(targets)):
                click.echo(f"warning: {target}: no event of it lately; paused for those to come", err=True)
        found = pauses.pauses(conn)
    if not found:
        click.echo("nothing is paused", err=True)
    else:
        print_pauses(found, as_json=as_json)


@click.command()
@click.argument("targets", nargs=-1, type=What(), metavar="source=NAME|type=NAME...", required=True)
@click.option("--reason", default="", help="Why; kept with who and when, see `processor actions`.")
def resume(targets: tuple[Target, ...], reason: str) -> None:
    """Handle events of a paused source or type again.

    \b
    processor resume source=twilio
    """  # noqa: D301 - see above
    with connection() as conn:
        ended = pauses.resume(conn, list(targets), reason)
    for target in targets:
        click.echo(f"{target} {'resumed' if target in ended else 'was not paused'}", err=True)


@click.command("actions")
@limit_option
@json_option
def list_actions(limit: int, *, as_json: bool) -> None:
    """List what was done by these commands: who replayed, skipped, purged, pruned, paused what, when and why.

    An UPDATE typed into psql is not among them. done less than events: it was stopped, or is under way.
    """
    with connection() as conn:
        found = actions.recent(conn, limit)
    if not found:
        nothing("nothing was done yet")
    shown = found if as_json else [{**row, "chosen": _words(row["chosen"])} for row in found]
    output.rows(shown, ACTIONS, as_json=as_json)


def print_pauses(found: list[pauses.Row], *, as_json: bool) -> None:
    """Print pauses: until when, and how many events wait for their end."""
    shown = [{**row, "paused": f"{row['kind']}={row['name']}"} for row in found]
    if not as_json:
        for row in shown:
            row["until"] = f"ended {output.text(row['until'])}" if row["ended"] else row["until"] or "resumed by hand"
    output.rows(shown, COLUMNS, as_json=as_json)


def _words(chosen: dict[str, Any]) -> str:
    return " ".join(f"{name}={' '.join(value) if isinstance(value, list) else value}" for name, value in chosen.items())
