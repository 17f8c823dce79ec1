"""The rule by which a call or a message moves on; its effects on rows: test_call_events.py and test_stories.py."""

from datetime import UTC, datetime
from typing import get_args

import pytest

from handlers.models import ENDS, CallState, MessageState
from handlers.progress import CALL, MESSAGE, Known, change, filled

EARLY, LATE = datetime(2026, 11, 20, 10, tzinfo=UTC), datetime(2026, 11, 20, 11, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ranks", "states", "function"),
    [(CALL, get_args(CallState), "call_rank"), (MESSAGE, get_args(MessageState), "message_rank")],
    ids=["call", "message"],
)
def test_a_state_has_the_rank_that_the_database_gives_it(db, ranks, states, function):
    in_sql = {state: db.execute(f"SELECT {function}(%s)".encode(), [state]).fetchone()[0] for state in states}

    assert {state: ranks.rank(state) for state in states} == in_sql


def test_a_call_is_over_in_the_states_that_the_database_and_the_model_call_ends(db):
    over = {state for state in get_args(CallState) if CALL.is_over(state)}

    assert over == set(ENDS)
    assert over == {s for s in get_args(CallState) if db.execute("SELECT call_ended(%s)", [s]).fetchone() == (True,)}


@pytest.mark.parametrize(
    ("old", "state", "at", "expected"),
    [
        (None, None, LATE, "noted"),
        (None, "ringing", LATE, "created"),
        (Known("ringing", EARLY, 1), None, LATE, "noted"),
        (Known("ringing", EARLY, 1), "answered", LATE, "moved"),
        (Known("ringing", LATE, 1), "answered", EARLY, "moved"),
        (Known("ringing", None, 1), "completed", None, "moved"),
        (Known("ringing", EARLY, 1), "ringing", LATE, "repeated"),
        (Known("answered", LATE, 1), "ringing", EARLY, "late"),
        (Known("answered", EARLY, 1), "ringing", None, "late"),
        (Known("answered", EARLY, 1), "ringing", LATE, "impossible"),
        (Known("busy", EARLY, 1), "completed", LATE, "moved"),
        (Known("busy", LATE, 1), "completed", EARLY, "late"),
        (Known("busy", EARLY, 1), "completed", None, "late"),
        (Known("completed", EARLY, 1), "completed", LATE, "moved"),
        (Known("timeout", LATE, 1), "completed", EARLY, "moved"),
        (Known("completed", EARLY, 1), "timeout", LATE, "impossible"),
        (Known("failed", EARLY, 7), "completed", EARLY, "moved"),
    ],
)
def test_what_an_event_changes(old, state, at, expected):
    assert change(CALL, old, state, at, event=7) == expected


def test_what_is_told_first_fills_in_what_is_told_later_does_not_replace_it():
    old = {"to_number": "+15555550142", "direction": None}
    told = {"to_number": "+15555550100", "direction": "inbound"}

    assert filled(old, told, ("to_number", "direction"), first=False) == {**old, "direction": "inbound"}
    assert filled(old, told, ("to_number", "direction"), first=True) == told


def test_a_fact_that_is_zero_is_a_fact():
    assert filled({"duration_seconds": 0}, {"duration_seconds": 9}, ("duration_seconds",), first=False) == {
        "duration_seconds": 0
    }
