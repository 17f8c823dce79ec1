"""Durations and rates as people type them: 45s, 30m, 2h, 7d; 20/s, 300/m, 1000/h."""

import re
from datetime import timedelta

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST = timedelta(days=36500)  # a database's time reaches so far back, and no retention further


def duration(text: str) -> timedelta:
    """Return the duration that *text* names, at most LONGEST. Raises ValueError with what was expected."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if match is None:
        raise ValueError(f"expected 45s, 30m, 2h or 7d, got {text!r}")
    length = timedelta(seconds=int(match[1]) * SECONDS[match[2]])
    if length > LONGEST:
        raise ValueError(f"expected at most {LONGEST.days}d, got {text!r}")
    return length


def rate(text: str) -> float:
    """Return the rate that *text* names, in so many a second. Raises ValueError with what was expected."""
    match = re.fullmatch(r"([0-9]{1,6})/([smh])", text)
    if match is None or int(match[1]) == 0:
        raise ValueError(f"expected 20/s, 300/m or 1000/h, got {text!r}")
    return int(match[1]) / SECONDS[match[2]]
