"""The times that providers write, in seconds, milliseconds and texts."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

FIRST_YEAR, LAST_YEAR = 1970, 2200  # as the table's CHECK has it
# As Twilio writes a time, "Fri, 20 Nov 2026 10:00:00 +0000": so it is read in a fifth of what parsedate takes.
RFC_2822 = re.compile(
    r"[A-Z][a-z]{2}, ([0-9]{2}) ([A-Z][a-z]{2}) ([12][0-9]{3}) ((?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]) \+0000"
)
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def from_epoch(value: Any) -> datetime | None:
    """Return the time of a number of seconds or milliseconds since 1970; None for anything else.

    Seconds have ten digits until the year 2286, milliseconds have had twelve since 1973.
    """
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 16:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return _sensible(datetime.fromtimestamp(value / 1000 if abs(value) >= 1e11 else value, UTC))
    except (ValueError, OverflowError, OSError):
        return None


def from_text(value: Any) -> datetime | None:
    """Return the time of an ISO 8601 or RFC 2822 text, UTC where it names no zone; None for anything else.

    A text of digits alone is a number of something since some day, though ISO 8601 has a form for it.
    """
    if not isinstance(value, str) or not value or value.isdigit():
        return None
    iso = value
    if (sent := RFC_2822.fullmatch(value)) and sent[2] in MONTHS:
        iso = f"{sent[3]}-{MONTHS.index(sent[2]) + 1:02d}-{sent[1]}T{sent[4]}+00:00"
    for parse, text in ((datetime.fromisoformat, iso), (parsedate_to_datetime, value)):
        try:
            time = parse(text)
            return _sensible((time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC))
        except (ValueError, OverflowError, IndexError, TypeError):
            continue
    return None


def first_of(times: Iterable[datetime | None]) -> datetime | None:
    """Return the first that is a time."""
    return next((time for time in times if time is not None), None)


def _sensible(time: datetime) -> datetime | None:
    """Return *time* if something can have happened then; the year 1 and 9999 are what some write for never."""
    return time if FIRST_YEAR <= time.year < LAST_YEAR else None
