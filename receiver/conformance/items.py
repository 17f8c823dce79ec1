"""What an item of the conformance list is, and how a list of them is run."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from receiver.check_report import FAIL, OK, SKIP, WARN, Check
from receiver.conformance.trial import OutOfTime, Trial

BOUND, SLOW_BOUND = 60.0, 240.0  # seconds for a run; what isn't over by then is skipped


class Skipped(Exception):
    """Can't be tried here; the message says why."""


class Failed(Exception):
    """Not as expected; the message says what came."""


class Doubtful(Exception):
    """As expected, but worth a look; the message says what came."""


@dataclass(frozen=True)
class Item:
    """One item. run: returns what came, or raises one of the above. slow: takes 10 s or more, or 512 MB.

    last: judges the answers to the items before it.
    """

    number: str
    title: str
    expected: str
    run: Callable[[Trial], str]
    slow: bool = False
    last: bool = False

    @property
    def name(self) -> str:
        """Number and title, as the report has them."""
        return f"{self.number} {self.title}"


ITEMS: dict[str, Item] = {}


def item(
    number: str, title: str, expected: str, *, slow: bool = False, last: bool = False
) -> Callable[[Callable[[Trial], str]], Callable[[Trial], str]]:
    """Put the function into the list, under its number."""

    def register(run: Callable[[Trial], str]) -> Callable[[Trial], str]:
        ITEMS[number] = Item(number, title, expected, run, slow, last)
        return run

    return register


def expect(good: bool, got: str) -> str:
    """Return *got* where it is *good*. Raises Failed."""
    if not good:
        raise Failed(got)
    return got


def in_order() -> list[Item]:
    """Return the items by number."""
    return sorted(ITEMS.values(), key=lambda one: int(one.number[1:]))


def run(trial: Trial, only: frozenset[str] = frozenset(), *, slow: bool = False) -> Iterator[Check]:
    """Yield a check an item: all, or *only* these; those that judge all answers at the end.

    Raises OSError where nobody takes the first connection.
    """
    trial.until = time.monotonic() + (SLOW_BOUND if slow else BOUND)
    chosen = [one for one in in_order() if not only or one.number in only]
    for one in sorted(chosen, key=lambda one: one.last):
        if one.slow and not slow:
            yield Check(SKIP, one.name, one.expected, "takes long, or sends much; try it with --slow")
        else:
            yield _check(one, trial)


def _check(one: Item, trial: Trial) -> Check:
    level = OK
    try:
        got = one.run(trial)
    except Skipped as error:
        level, got = SKIP, str(error)
    except OutOfTime:
        level, got = SKIP, f"the time is over; try it alone with --only {one.number}"
    except Doubtful as error:
        level, got = WARN, str(error)
    except Failed as error:
        level, got = FAIL, str(error)
    except OSError as error:
        if not trial.replies:
            raise
        level, got = FAIL, f"no connection ({error})"
    return Check(level, one.name, one.expected, got)
