"""Calls and their log: a state moves only up its rank, and whatever came is written down, once and for good."""

import logging
from dataclasses import replace
from datetime import timedelta
from itertools import permutations
from typing import Any

import psycopg
import pytest

from handlers import calls
from handlers.models import CALL_STATES
from handlers.providers import call_event
from processor import operations
from tests.commands import runner
from tests.inbox import look, process
from tests.told import at, changes, event, row, rows, systems, tell_twilio, tell_vapi, vapi_status

__all__ = ["systems"]

pytestmark = pytest.mark.usefixtures("systems")

CALL = "SELECT * FROM calls"
FINAL = """
    SELECT DISTINCT to_jsonb(calls) - '{call_id, webhook_event_id, created_at, updated_at}'::text[] AS final FROM calls
"""


def state(conn):
    return row(conn, CALL)["state"]


def test_a_call_moves_up_its_rank_and_the_log_says_from_where(db):
    for seconds, status in enumerate(("initiated", "ringing", "in-progress", "completed")):
        tell_twilio(db, status, seconds)
    process(db)

    assert state(db) == "completed"
    assert changes(db) == [
        ("initiated", None, "created"), ("ringing", "initiated", "moved"),
        ("answered", "ringing", "moved"), ("completed", "answered", "moved"),
    ]  # fmt: skip


def test_each_line_of_the_log_points_at_its_webhook_event(db):
    told = [tell_twilio(db, "initiated"), tell_twilio(db, "completed", 9, CallDuration=7)]
    process(db)

    found = rows(db, "SELECT * FROM call_events ORDER BY id")
    assert [one["webhook_event_id"] for one in found] == told
    assert [one["occurred_at"] for one in found] == [at(0), at(9)]
    assert found[1]["details"]["duration_seconds"] == "7"
    assert row(db, CALL)["webhook_event_id"] == told[1]


@pytest.mark.parametrize("late", ["initiated", "ringing"])
def test_a_late_state_changes_nothing_but_the_log(db, late):
    tell_twilio(db, "in-progress", 9)
    process(db)
    before = row(db, CALL)
    tell_twilio(db, late, 2)
    process(db)

    assert row(db, CALL) == before
    assert changes(db)[-1] == (late, "answered", "late")


def test_an_impossible_jump_changes_no_state_and_is_logged_as_such(db, caplog):
    tell_twilio(db, "completed", 9)
    process(db)
    before = row(db, CALL)
    ringing = tell_twilio(db, "ringing", 20)
    with caplog.at_level(logging.WARNING, "handlers"):
        process(db)

    heard = {name: row(db, CALL)[name] for name in ("last_status_at", "updated_at")}  # that there was an event
    assert row(db, CALL) == {**before, **heard}
    assert changes(db)[-1] == ("ringing", "completed", "impossible")
    assert f"call impossible id={ringing} type=call.ringing state=completed" in caplog.text


def test_a_state_that_is_told_twice_is_logged_twice_and_changes_nothing(db):
    tell_twilio(db, "ringing", 2)
    tell_twilio(db, "ringing", 2, SequenceNumber=2)
    process(db)

    assert changes(db)[-1] == ("ringing", "ringing", "repeated")


@pytest.mark.parametrize("order", [("failed", "completed"), ("completed", "failed")])
def test_of_two_ends_the_one_that_happened_last_counts_whichever_came_first(db, order):
    for end in order:
        tell_twilio(db, end, {"failed": 9, "completed": 42}[end], SequenceNumber=order.index(end))
    process(db)

    found = row(db, CALL)
    assert (found["state"], found["ended_at"], found["ended_reason"]) == ("completed", at(42), "completed")


@pytest.mark.parametrize("times", [(None, None), (9, None), (None, 9), (9, 9)])
def test_of_two_ends_whose_times_do_not_tell_the_first_counts(db, times):
    for end, time in zip(("failed", "completed"), times, strict=True):
        tell_twilio(db, end, time or 0, **({} if time else {"Timestamp": ""}), SequenceNumber=time or 0)
    process(db)

    assert state(db) == "failed"
    assert changes(db)[-1] == ("completed", "failed", "late")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE call_events SET state = 'answered'",
        "UPDATE call_events SET webhook_event_id = NULL",
        "DELETE FROM call_events",
    ],
)
def test_the_log_refuses_to_be_changed(db, statement):
    tell_twilio(db, "ringing")
    process(db)
    before = rows(db, "SELECT * FROM call_events")

    with pytest.raises(psycopg.errors.RestrictViolation, match="call_events is a log: its rows are not changed"):
        db.execute(statement.encode())

    assert rows(db, "SELECT * FROM call_events") == before


def test_retention_of_an_event_keeps_its_line_and_the_call_and_lets_the_line_be_deleted(db, dsn):
    old = tell_twilio(db, "initiated")
    process(db)
    db.execute("UPDATE webhook_events SET processed_at = now() - interval '91 days' WHERE id = %s", [old])
    tell_twilio(db, "completed", 9)
    process(db)

    assert runner(dsn)("db", "prune", "--older-than", "90d").returncode == 0

    assert changes(db) == [("initiated", None, "created"), ("completed", "initiated", "moved")]
    assert db.execute("DELETE FROM call_events WHERE webhook_event_id IS NULL").rowcount == 1
    assert changes(db) == [("completed", "initiated", "moved")]
    assert state(db) == "completed"


def test_what_is_known_of_a_call_is_the_same_whatever_the_order(db):
    story: list[tuple[Any, ...]] = [
        ("initiated", 0, {}),
        ("in-progress", 9, {}),
        ("completed", 51, {"CallDuration": 42, "SipResponseCode": 200}),
        (None, 0, {"AnsweredBy": "human"}),
    ]
    orders = list(permutations(story))
    for number, order in enumerate(orders):
        for status, seconds, fields in order:
            tell_twilio(db, status, seconds, query="campaign_id=camp-1", call=f"CA{number}", **fields)
    process(db)

    (final,) = rows(db, FINAL)  # of all the calls
    known = ("state", "duration_seconds", "sip_code", "answered_by", "campaign_id", "direction", "to_number")
    assert [final["final"][name] for name in known] == [
        "completed", 42, 200, "human", "camp-1", "outbound", "+15555550142",
    ]  # fmt: skip
    assert row(db, "SELECT count(*) FROM calls") == {"count": len(orders)}


def test_a_recording_under_its_own_subject_lands_on_its_call_whichever_came_first(db):
    recording: dict[str, Any] = {
        "RecordingStatus": "completed",
        "RecordingUrl": "https://api/RE",
        "RecordingDuration": 41,
    }
    tell_twilio(db, "completed", 51)
    tell_twilio(db, None, call="CA2", RecordingSid="RE2", **recording)
    process(db)
    tell_twilio(db, None, RecordingSid="RE1", **recording)
    tell_twilio(db, "completed", 51, call="CA2")
    process(db)

    found = rows(db, "SELECT call_id, state, recording_url, recording_seconds FROM calls ORDER BY call_id")
    assert [tuple(one.values()) for one in found] == [
        ("CA1", "completed", "https://api/RE", 41), ("CA2", "completed", "https://api/RE", 41),
    ]  # fmt: skip


def test_a_replay_changes_nothing_and_is_logged_anew(db):
    ended = tell_twilio(db, "completed", 51, CallDuration=42)
    process(db)
    before = row(db, CALL)

    operations.replay(db, [ended])
    process(db)

    assert row(db, CALL) == before
    assert rows(db, "SELECT replays FROM call_events ORDER BY id") == [{"replays": 0}, {"replays": 1}]


def test_a_wrong_mapping_is_mended_by_a_replay(db, monkeypatch):
    with monkeypatch.context() as wrong:
        wrong.setattr("handlers.providers.twilio.CALL_STATES", {**CALL_STATES, "call.no_answer": "busy"})
        ended = tell_twilio(db, "no-answer", 30)
        process(db)
        assert state(db) == "busy"

    operations.replay(db, [ended])
    process(db)

    assert state(db) == "no_answer"
    assert [(told, change) for told, _, change in changes(db)] == [("busy", "created"), ("no_answer", "moved")]


def silence(conn):
    """Let what is expected be overdue."""
    conn.execute("UPDATE webhook_expectations SET armed_at = now() - interval '5 h', due_at = now() - interval '1 h'")
    process(conn)


def test_a_call_that_tells_no_end_within_four_hours_is_a_timeout(db):
    tell_twilio(db, "in-progress")
    process(db)
    expected = row(db, "SELECT *, due_at - armed_at AS within FROM webhook_expectations")
    assert (expected["event_type"], expected["within"]) == ("call.timeout", timedelta(hours=4))

    silence(db)

    assert state(db) == "timeout"
    assert changes(db)[-1] == ("timeout", "answered", "moved")


def test_an_end_that_is_told_after_the_timeout_counts_more(db):
    tell_twilio(db, "in-progress")
    process(db)
    silence(db)
    tell_twilio(db, "completed", 51, CallDuration=42)
    process(db)

    found = row(db, CALL)
    assert (found["state"], found["ended_at"], found["duration_seconds"]) == ("completed", at(51), 42)


def test_a_call_that_has_ended_is_not_expected_to_end(db):
    tell_twilio(db, "in-progress")
    tell_twilio(db, "completed", 51)
    process(db)

    assert rows(db, "SELECT * FROM webhook_expectations") == []


def test_a_timeout_after_the_end_changes_nothing(db):
    ended = tell_twilio(db, "completed", 51)
    process(db)
    before = row(db, CALL)
    db.execute(
        "SELECT webhook_emit('default', 'call.timeout', 'call/CA1', 'k', jsonb_build_object('provider', 'twilio',"
        " 'call_id', 'CA1'), now())"
    )
    process(db)

    assert row(db, CALL) == before
    assert rows(db, "SELECT webhook_event_id FROM call_events") == [{"webhook_event_id": ended}]


def test_a_call_that_nobody_made_known_is_created_and_logged(db, caplog):
    told = tell_twilio(db, "ringing")
    with caplog.at_level(logging.INFO, "handlers"):
        process(db)

    assert state(db) == "ringing"
    assert f"call unknown id={told} provider=twilio type=call.ringing; created" in caplog.text


def test_a_call_that_nobody_made_known_is_ignored_where_that_is_set_and_no_error(db, caplog, monkeypatch):
    monkeypatch.setattr(calls, "IGNORED", frozenset({"twilio"}))
    told = tell_twilio(db, "ringing", query="campaign_id=camp-1&call_id=att-1")
    with caplog.at_level(logging.INFO, "handlers"):
        process(db)

    assert rows(db, CALL) == rows(db, "SELECT * FROM call_attempts") == []
    assert look(db, told, "outcome, dead_at") == ("handled", None)
    assert f"call ignored id={told} provider=twilio type=call.ringing; it is not in calls" in caplog.text


def test_ignoring_is_of_unknown_calls_of_that_provider_alone(db, monkeypatch):
    monkeypatch.setattr(calls, "IGNORED", frozenset({"twilio"}))
    db.execute("INSERT INTO calls (provider, call_id) VALUES ('twilio', 'CA1')")
    tell_twilio(db, "ringing")
    vapi_status(db, "ringing")
    process(db)

    assert rows(db, "SELECT provider, state FROM calls ORDER BY provider") == [
        {"provider": "twilio", "state": "ringing"}, {"provider": "vapi", "state": "ringing"},
    ]  # fmt: skip


def test_the_setting_is_ignore_unknown_calls_and_a_wrong_one_stops_the_start(db, dsn):
    tell_twilio(db, "ringing")

    wrong = runner(dsn)("run", "--once", IGNORE_UNKNOWN_CALLS="twilio, sipgate")
    assert (wrong.returncode, rows(db, CALL)) == (78, [])
    assert "IGNORE_UNKNOWN_CALLS: expected some of dialpad, twilio, vapi; got sipgate" in wrong.stderr
    assert runner(dsn)("run", "--once", IGNORE_UNKNOWN_CALLS="vapi, twilio").returncode == 0
    assert (rows(db, CALL), look(db, 1, "outcome")) == ([], ("handled",))


@pytest.mark.parametrize(
    ("tell", "reason"),
    [
        (
            lambda db: tell_twilio(db, "completed", CallDuration="soon"),
            "Invalid: twilio call.completed: CallDuration: input should be a valid decimal",
        ),
        (
            lambda db: tell_twilio(db, "completed", CallDuration=-1),
            "Invalid: twilio completed: duration_seconds: input should be greater than or equal to 0",
        ),
        (
            lambda db: tell_vapi(db, {"message": {"type": "status-update", "status": "ringing", "call": {}}}),
            "Invalid: vapi status-update:ringing: call.id: field required",
        ),
    ],
)
def test_an_invalid_payload_is_a_dead_letter_at_once_with_what_was_expected(db, tell, reason):
    told = tell(db)
    process(db)

    assert look(db, told, "dead_at IS NOT NULL, attempts") == (True, 1)
    (error,) = look(db, told, "last_error")
    assert error.startswith(reason)
    assert rows(db, CALL) == rows(db, "SELECT * FROM call_events") == []


def test_one_that_was_not_to_be_understood_is_handled_by_a_replay_once_it_is(db, monkeypatch):
    with monkeypatch.context() as wrong:
        wrong.setattr("handlers.providers.twilio.CALL_STATES", {**CALL_STATES, "call.ringing": "rang"})
        told = tell_twilio(db, "ringing")
        process(db)
        assert look(db, told, "dead_at IS NOT NULL") == (True,)

    operations.replay(db, [told])
    process(db)

    assert state(db) == "ringing"


def test_what_is_invalid_is_a_value_error_that_never_holds_what_was_sent(db):
    told = event(db, tell_twilio(db, "completed", CallDuration="secret"))

    with pytest.raises(ValueError, match="CallDuration: input should be a valid decimal") as caught:
        call_event(told)

    assert "secret" not in str(caught.value)


def test_an_event_of_a_provider_without_calls_names_those_there_are(db):
    told = replace(event(db, tell_twilio(db, "ringing")), provider="sipgate")

    with pytest.raises(ValueError, match=r"expected a provider of calls, one of agent, dialpad, .*; got 'sipgate'"):
        call_event(told)
