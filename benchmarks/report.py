"""What a benchmark found: a table on stdout, and with --write docs/benchmarks/<name>.json and .svg.

The JSON has each round, so that whoever doubts a median can look; docs/performance.md is filled from it by
``python -m benchmarks.page``.
"""

import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from benchmarks.chart import Panel, draw
from benchmarks.rounds import Measures

DIRECTORY = Path(__file__).parents[1] / "docs" / "benchmarks"


@dataclass(frozen=True)
class Table:
    """Rows of one kind, each with its rounds.

    columns: unit of each, in order. over: column and row of which the others are told as a ratio, "÷ row".
    drawn: columns that the chart shows.
    """

    title: str
    columns: dict[str, str]
    rounds: dict[str, list[Measures]]
    over: tuple[str, str] | None = None
    drawn: tuple[str, ...] = ()

    @property
    def shown(self) -> dict[str, str]:
        """The columns with their units, and the ratio beside what it is of."""
        column, base = self.over or ("", "")
        shown = {}
        for name, unit in self.columns.items():
            shown[name] = unit
            if name == column and base in self.rounds:
                shown[f"÷ {base}"] = ""
        return shown

    def medians(self) -> dict[str, Measures]:
        """Return each row's medians by column, of those that it has; a ratio is the median of the rounds' ratios."""
        found = {}
        for name, rounds in self.rounds.items():
            every = list(map(self._with_ratio, rounds, self.rounds.get(self.over[1], rounds) if self.over else rounds))
            columns = [column for column in self.shown if all(column in one for one in every)]
            found[name] = {column: statistics.median(one[column] for one in every) for column in columns}
        return found

    def _with_ratio(self, one: Measures, base: Measures) -> Measures:
        column, name = self.over or ("", "")
        return one | {f"÷ {name}": one[column] / base[column]} if column in one and column in base else one

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        return {
            "title": self.title,
            "columns": self.shown,
            "medians": {name: _rounded(one) for name, one in self.medians().items()},
            "rounds": {name: [_rounded(one) for one in rounds] for name, rounds in self.rounds.items()},
        }

    def panels(self) -> list[Panel]:
        """Return what the chart shows of it."""
        medians = self.medians()
        return [
            Panel(
                f"{self.title}: {column}" + f", {self.columns[column]}" * bool(self.columns[column]),
                {name: one[column] for name, one in medians.items() if column in one},
            )
            for column in self.drawn
        ]


@dataclass(frozen=True)
class Report:
    """All that one benchmark found. command: what was typed. conditions: see conditions.py."""

    name: str
    command: str
    conditions: dict[str, str]
    tables: list[Table] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        tables = [table.as_json() for table in self.tables]
        return {"name": self.name, "command": self.command, "conditions": self.conditions, "tables": tables}

    def publish(self, *, write: bool) -> None:
        """Print the tables; with *write*, write the JSON and the chart as well."""
        found = self.as_json()
        for table in found["tables"]:
            click.echo(f"\n{table['title']}\n{text(table)}")
        click.echo("\n" + "\n".join(f"{name}: {value}" for name, value in self.conditions.items()))
        if write:
            DIRECTORY.mkdir(parents=True, exist_ok=True)
            document = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
            (DIRECTORY / f"{self.name}.json").write_text(document, encoding="utf-8")
            panels = [panel for table in self.tables for panel in table.panels()]
            (DIRECTORY / f"{self.name}.svg").write_text(draw(panels), encoding="utf-8")


def text(table: dict[str, Any]) -> str:
    """Return a table of the JSON in Markdown, its columns in line; a figure that a row lacks is blank."""
    units = {
        name: unit for name, unit in table["columns"].items() if any(name in row for row in table["medians"].values())
    }
    lines = [["", *(f"{column}, {unit}" if unit else column for column, unit in units.items())]]
    for name, row in table["medians"].items():
        lines.append([name, *(figure(row[column]) if column in row else "" for column in units)])
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    rows = [[lines[0][0].ljust(widths[0]), *map(str.rjust, lines[0][1:], widths[1:])]]
    rows.append(["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    rows += [[line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])] for line in lines[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def figure(value: float) -> str:
    """Return *value* to three figures, and a whole number from 100 on: 0.0123, 1.23, 12.3, 1,234."""
    if abs(value) >= 100 or value == round(value):
        return f"{value:,.0f}"
    digits = 1 if abs(value) >= 10 else 2 if abs(value) >= 0.1 else 4
    return f"{value:.{digits}f}"


def _rounded(measures: Measures) -> Measures:
    return {column: float(f"{value:.5g}") for column, value in measures.items()}
