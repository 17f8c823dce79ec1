"""The options that commands share, and what a person may type for each."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from processor.command import C
from processor.duration import duration, rate
from processor.operations import Filter

ID = click.IntRange(1, 2**63 - 1)


class Since(click.ParamType[datetime]):
    """A time: 90s, 15m, 2h, 7d ago, or ISO 8601 (UTC where it names no zone)."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time; fails the command with what was expected."""
        try:
            if value[:-1].isdigit():
                return datetime.now(UTC) - duration(value)
            time = datetime.fromisoformat(value)
        except (ValueError, OverflowError):
            self.fail(f"expected 90s, 15m, 2h, 7d or 2026-11-20T10:00, got {value!r}", param, ctx)
        return time if time.tzinfo else time.replace(tzinfo=UTC)


class Duration(click.ParamType[timedelta]):
    """A time span longer than none: 45s, 30m, 2h, 7d."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Return the duration; fails the command with what was expected."""
        try:
            length = duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if not length:
            self.fail(f"expected more than none, got {value!r}", param, ctx)
        return length


class Rate(click.ParamType[float]):
    """So many a second: 20/s, 300/m, 1000/h."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return events a second; fails the command with what was expected."""
        try:
            return rate(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def handlers_option(command: C) -> C:
    """Add --handlers."""
    return click.option(
        "--handlers", "modules", multiple=True, default=["handlers"], envvar="HANDLERS", show_envvar=True,
        show_default=True, metavar="MODULE",
        help="Package or module with @on functions; its submodules are imported too. Repeatable.",
    )(command)  # fmt: skip


def filter_options(command: C) -> C:
    """Add the options that make a Filter, but for its state, and pass them on; see chosen()."""
    options = [
        click.option("--source", help="Only this source."),
        click.option("--type", "type_", help="Only this event type, such as call.completed."),
        click.option("--subject", help="Only this subject, such as call/CA...."),
        click.option("--error", help="Only events whose last error contains this."),
        click.option("--since", type=Since(), help="Received since: 90s, 15m, 2h, 7d ago, or a time."),
        click.option("--until", type=Since(), help="Received before."),
        click.option("--after", type=ID, metavar="ID", help="Only events with a greater id."),
    ]
    return _add(options, command)


def state_option(command: C) -> C:
    """Add --state."""
    states = click.Choice(["waiting", "retrying", "dead", "processed"])
    return click.option("--state", type=states, help="Only events in this state.")(command)


def limit_option(command: C) -> C:
    """Add --limit, for a list of the newest first."""
    limit = click.IntRange(1, 10000)
    return click.option("--limit", type=limit, default=50, show_default=True, help="Newest so many.")(command)


def change_options(verb: str, done: str) -> Callable[[C], C]:
    """Return a decorator that adds the options of a command that changes events."""
    options = [
        click.option("--all", "everything", is_flag=True, help=f"Allow a {verb} without any ID or filter."),
        click.option("--reason", default="", help="Why; kept with who and when, see `processor actions`."),
        click.option("--dry-run", is_flag=True, help=f"Say what would be {done}, and change nothing."),
        click.option("--yes", is_flag=True, help="Don't ask."),
    ]
    return lambda command: _add(options, command)


def rate_option(command: C) -> C:
    """Add --rate."""
    words = "At most so many events a second, minute or hour: 20/s, 300/m, 1000/h. Default: as fast as it goes."
    return click.option("--rate", "per_second", type=Rate(), metavar="N/s", help=words)(command)


def chosen(ids: tuple[int, ...], values: dict[str, Any]) -> Filter:
    """Return the filter that the options of filter_options make."""
    values["type"] = values.pop("type_")
    return Filter(ids=list(ids) or None, **values)


def _add(options: Sequence[Callable[[C], C]], command: C) -> C:
    for option in reversed(options):
        command = option(command)
    return command
