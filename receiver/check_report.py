"""A report like a test suite's: a line a check, then how many passed."""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

from sql.log import printable

OK, WARN, FAIL, SKIP = "ok", "warn", "FAIL", "skip"


@dataclass(frozen=True)
class Check:
    """One thing tried: level is ok, warn, FAIL or skip; fix: what to do, "" where there is nothing to."""

    level: str
    name: str
    expected: str
    got: str
    fix: str = ""


def checked(name: str, expected: str, got: str, good: bool, fix: str = "") -> Check:
    """Return a check that is ok where *good*, else a FAIL that *fix* may mend."""
    return Check(OK, name, expected, got) if good else Check(FAIL, name, expected, got, fix)


def report(checks: Iterable[Check], echo: Callable[[str], None], *, as_json: bool, width: int = 34) -> int:
    """Print each check as it is made, and how many came out how; return the exit code: 0, or 1 after a FAIL.

    *width*: of the names' column, in characters.
    """
    counts = dict.fromkeys((OK, FAIL, WARN, SKIP), 0)
    began = time.monotonic()
    for one in checks:
        counts[one.level] += 1
        echo(json.dumps(asdict(one)) if as_json else printable(_line(one, width)))
    if not as_json:
        took = time.monotonic() - began
        skipped = f", {counts[SKIP]} skipped" if counts[SKIP] else ""
        echo(f"\n{counts[OK]} passed, {counts[FAIL]} failed, {counts[WARN]} warnings{skipped} in {took:.1f} s")
    return 1 if counts[FAIL] else 0


def _line(one: Check, width: int) -> str:
    if one.level in (OK, SKIP):
        return f"{one.level:<5} {one.name:<{width}} {one.got}"
    fix = f"; {one.fix}" if one.fix else ""
    return f"{one.level:<5} {one.name}: expected {one.expected}, got {one.got}{fix}"
