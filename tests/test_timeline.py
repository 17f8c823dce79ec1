"""What happened to an event, as `events show` tells it: attempts, replays, the success."""

import pytest
from psycopg import sql

from processor import actions, operations, pauses
from processor.pauses import Target
from tests.commands import lines, runner
from tests.inbox import add


def fail(db, event, **columns):
    """Insert a failed attempt, as a worker leaves it."""
    values = {
        "event_id": event, "replays": 0, "attempt": 1, "result": "retry", "worker": "host:12", "seconds": 0.25,
        "handler": "mine.handle", "handler_version": "v1", "error_class": "ConnectionError",
        "error": "ConnectionError: crm is down", **columns,
    }  # fmt: skip
    db.execute(
        sql.SQL("INSERT INTO webhook_attempts ({}) VALUES ({})").format(
            sql.SQL(", ").join(map(sql.Identifier, values)), sql.SQL(", ").join(map(sql.Placeholder, values))
        ),
        values,
    )


def happened(db, event):
    row = operations.show(db, event)
    assert row is not None
    return operations.timeline(db, row)


def test_attempts_replays_and_the_success_stand_in_their_order(db):
    event = add(db, attempts=1, dead_at="2026-01-01", last_error="x")
    fail(db, event)
    fail(db, event, attempt=2, result="dead")
    action = actions.begin(db, "replay", {}, reason="the CRM is back", ids=[event])
    operations.replay(db, [event])
    actions.advance(db, action, 1, ended=True)
    db.execute(
        "UPDATE webhook_events SET processed_at = now(), outcome = 'handled', attempts = 1, seconds = 0.5,"
        " handler_version = 'v2'"
    )

    found = happened(db, event)

    assert [(row["what"], row.get("attempt"), row.get("replays")) for row in found] == [
        ("retry", 1, 0), ("dead", 2, 0), ("replay", None, None), ("handled", 1, 1),
    ]  # fmt: skip
    assert (found[2]["reason"], found[2]["who"]) == ("the CRM is back", actions.who())
    assert (found[3]["seconds"], found[3]["handler_version"]) == (0.5, "v2")


def test_an_action_on_others_is_not_told(db):
    first, second, third = add(db), add(db), add(db)
    actions.begin(db, "skip", {}, ids=[first, third])

    assert happened(db, second) == []
    assert [row["what"] for row in happened(db, third)] == ["skip"]


def test_a_waiting_event_tells_whom_it_waits_for(db):
    first = add(db, subject="call/CA1")
    second = add(db, subject="call/CA1")
    pauses.pause(db, [Target("source", "twilio"), Target("type", "call.answered")], None, "")

    row = operations.show(db, second)

    assert row is not None
    assert (row["behind"], row["paused"]) == (first, "source=twilio")


def test_an_earlier_event_that_yields_holds_nobody_back(db):
    add(db, subject="call/CA1", last_error="x", yields_at="2026-01-01")
    second = add(db, subject="call/CA1")

    assert (operations.show(db, second) or {})["behind"] is None


@pytest.mark.parametrize(
    ("columns", "state", "waits"),
    [
        ({}, "waiting", True),
        ({"last_error": "x"}, "retrying", True),
        ({"last_error": "x", "dead_at": "2026-01-01"}, "dead", False),
        ({"outcome": "handled", "processed_at": "2026-01-01"}, "processed", False),
    ],
)
def test_show_tells_the_state_and_the_next_attempt_where_there_is_one(db, dsn, columns, state, waits):
    shown = runner(dsn)("events", "show", add(db, **columns)).stdout.splitlines()

    assert shown[1].split() == ["state", state]
    assert any(line.startswith("next_attempt_at") for line in shown) is waits


def test_show_prints_a_line_an_attempt_and_json_has_them_all(db, dsn):
    run, event = runner(dsn), add(db, attempts=1, last_error="x")
    fail(db, event, error="ConnectionError: \x1b[2Jcrm is down")

    shown = run("events", "show", event).stdout
    (attempt,) = lines(run("events", "show", event, "--json"))[0]["timeline"]

    (line,) = [line for line in shown.splitlines() if "mine.handle" in line]
    assert line.split("\t")[3:] == [
        "retry", "250 ms", "host:12", "mine.handle", "v1", "ConnectionError: \\x1b[2Jcrm is down",
    ]  # fmt: skip
    assert (attempt["error_class"], attempt["worker"], attempt["seconds"]) == ("ConnectionError", "host:12", 0.25)
    assert attempt["at"].endswith("Z")
