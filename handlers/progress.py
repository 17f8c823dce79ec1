"""How far a call or a message is, and what an event changes about that. Pure: rows and what was told in, a row out.

A state moves only up its rank. Of two ends the one that happened last by the provider's clock counts, else the first.
What is known besides the state is filled in as it is told; where two events tell it, that of the one that brought the
state counts. So a row ends as the same in whatever order its events come.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

Change = Literal["noted", "created", "moved", "repeated", "late", "impossible"]

# As call_rank() and message_rank() in the database. timeout is assumed after silence: an end that is told counts more.
CALL_RANKS = {"scheduled": 0, "queued": 1, "initiated": 2, "ringing": 3, "answered": 4, "timeout": 5}
MESSAGE_RANKS = {"queued": 0, "sent": 1, "read": 3}


@dataclass(frozen=True)
class Ranks:
    """The rank of each state; end: of those that *ranks* doesn't name. over: from which on nothing more is to come."""

    ranks: Mapping[str, int]
    end: int
    over: int

    def rank(self, state: str) -> int:
        """Return how far a state is."""
        return self.ranks.get(state, self.end)

    def is_over(self, state: str) -> bool:
        """Tell whether nothing more is to come after a state."""
        return self.rank(state) >= self.over


CALL = Ranks(CALL_RANKS, end=6, over=5)
MESSAGE = Ranks(MESSAGE_RANKS, end=2, over=2)


@dataclass(frozen=True)
class Known:
    """What is known of a state: since when by the provider's clock (None: not told), and by which event."""

    state: str
    occurred_at: datetime | None
    event: int | None


def change(ranks: Ranks, old: Known | None, state: str | None, occurred_at: datetime | None, event: int) -> Change:
    """Return what an event's state, None for none, changes.

    noted: it tells none. created, moved: it is the state now. repeated, late: it is, or was before, the state.
    impossible: lower than the state, and yet told to be later.
    """
    if state is None:
        return "noted"
    if old is None:
        return "created"
    higher = ranks.rank(state) - ranks.rank(old.state)
    later = occurred_at is not None and old.occurred_at is not None and occurred_at > old.occurred_at
    if higher > 0 or (higher == 0 and ranks.is_over(state) and later):
        return "moved"
    if higher == 0 and event == old.event and state != old.state:
        return "moved"  # replayed, and understood better than before
    if higher < 0 and later:
        return "impossible"
    return "repeated" if state == old.state else "late"


def filled(
    old: Mapping[str, Any] | None, told: Mapping[str, Any], names: Collection[str], *, first: bool
) -> dict[str, Any]:
    """Return these facts of a row, with those that were told where it has none; *first*: what was told goes before."""
    row = old or {}
    one, other = (told, row) if first else (row, told)
    return {name: one.get(name) if one.get(name) is not None else other.get(name) for name in names}
