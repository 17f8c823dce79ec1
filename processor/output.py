"""How commands print: data on stdout, words on stderr.

Lists are a table on a terminal, tab-separated values when piped, JSON Lines with --json: keys as in the
SQL, times in RFC 3339 UTC, ids as text (they pass 2^53, where JavaScript's numbers end).
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from sql.log import printable

WIDTH_MAX = 60  # of one column on a terminal


def rows(found: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """Print a list. *columns* are those of the table; JSON has all."""
    if as_json:
        for row in found:
            click.echo(json_line(row))
        return
    table = [[text(row.get(column)) for column in columns] for row in found]
    if not sys.stdout.isatty():
        for cells in [list(columns), *table]:
            click.echo("\t".join(cells))
        return
    for shown in aligned(columns, table):
        click.echo(shown)


def aligned(columns: Sequence[str], table: Sequence[Sequence[str]]) -> list[str]:
    """Return a table's lines, for people: its headings and its cells, which are text() already."""
    headed = [[column.upper().replace("_", " ") for column in columns], *table]
    headed = [[cell if len(cell) <= WIDTH_MAX else cell[: WIDTH_MAX - 1] + "…" for cell in cells] for cells in headed]
    widths = [max(len(cells[i]) for cells in headed) for i in range(len(columns))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip() for cells in headed
    ]


def line(row: Mapping[str, Any], widths: Mapping[str, int]) -> str:
    """Return a row of a list that is printed as it grows: columns of these widths at least, or tabs when piped."""
    cells = {column: text(row.get(column)) for column in widths}
    if not sys.stdout.isatty():
        return "\t".join(cells.values())
    return "  ".join(cell.ljust(widths[column]) for column, cell in cells.items()).rstrip()


def fields(row: Mapping[str, Any], names: Iterable[str]) -> None:
    """Print one thing, a field a line; empty ones are left out."""
    shown = {name: text(row.get(name)) for name in names if row.get(name) not in (None, "")}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        click.echo(f"{name.ljust(width)}  {value}")


def json_line(value: Any) -> str:
    """Return *value* as one line of JSON."""
    return json.dumps(_plain(value), ensure_ascii=False, default=str)


def text(value: Any) -> str:
    """Return a cell: what comes from outside is escaped, so that it can't steer the terminal."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.astimezone().isoformat(sep=" ", timespec="seconds")
    if isinstance(value, timedelta):
        return age(value.total_seconds())
    return printable(str(value))


def age(seconds: float | None) -> str:
    """Return a duration as people read it: 840 ms, 12 s, 4 min, 3.5 h, 12 d; - where there is none."""
    if seconds is None:
        return "-"
    for limit, unit, name in ((1, 0.001, "ms"), (120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}" if name != "h" else f"{seconds / unit:.1f} h"
    return f"{seconds / 86400:.0f} d"


def _plain(value: Any, name: str = "") -> Any:
    if isinstance(value, Mapping):
        # What a provider sent is JSON already, and is told as it came.
        return {key: item if key == "payload" else _plain(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return value.hex()
    if name == "id" and isinstance(value, int):
        return str(value)
    return value


def printable_json(value: Any) -> str:
    """Return *value* as indented JSON, every character of it printable."""
    return json.dumps(value, indent=2, ensure_ascii=True, default=str)
