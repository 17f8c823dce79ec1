"""Cases measured in turns, A B C A B C: what else the machine does meets all of them alike."""

import importlib.util
import shutil
from collections.abc import Callable, Mapping

import click

Measures = dict[str, float]  # column -> figure


class Missing(Exception):
    """A case that can't be measured here; the message says what is not installed."""


def interleaved(cases: Mapping[str, Callable[[], Measures]], rounds: int) -> dict[str, list[Measures]]:
    """Return the measures of each case, a dict a round. A case that raises Missing is left out, with a line on stderr.

    Each case does all of its work again in each round.
    """
    found: dict[str, list[Measures]] = {name: [] for name in cases}
    for number in range(1, rounds + 1):
        for name in list(found):
            try:
                found[name].append(cases[name]())
            except Missing as reason:
                del found[name]
                click.echo(f"{name}: left out: {reason}", err=True)
            else:
                told = "  ".join(f"{column} {figure:.4g}" for column, figure in found[name][-1].items())
                click.echo(f"round {number} of {rounds}: {name}: {told}", err=True)
    return found


def need(*modules: str, programs: tuple[str, ...] = ()) -> None:
    """Raise Missing unless these Python modules and programs are installed."""
    absent = [name for name in modules if not importlib.util.find_spec(name)]
    if absent:
        raise Missing(f"no {', '.join(absent)}; pip install -e '.[bench]'")
    if absent := [name for name in programs if not shutil.which(name)]:
        raise Missing(f"no {', '.join(absent)} on the PATH")
