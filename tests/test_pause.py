"""Pauses: what is held back, until when, and who said so."""

from datetime import timedelta

import pytest

from processor import actions, pauses
from processor.pauses import Target
from tests.commands import lines, runner
from tests.inbox import add, look, process

TWILIO, RINGING = Target("source", "twilio"), Target("type", "call.ringing")


@pytest.fixture
def run(dsn):
    return runner(dsn)


def paused(db):
    return [(row["kind"], row["name"], row["ended"], row["reason"]) for row in pauses.pauses(db)]


def test_several_are_paused_and_resumed_at_once(run, db):
    add(db)

    done = run("pause", "source=twilio", "type=call.ringing", "--for", "30m", "--reason", "moving", "--json")

    assert done.returncode == 0, done.stderr
    assert [(row["kind"], row["name"], row["waiting"]) for row in lines(done)] == [
        ("source", "twilio", 1), ("type", "call.ringing", 1),
    ]  # fmt: skip
    assert paused(db) == [("source", "twilio", False, "moving"), ("type", "call.ringing", False, "moving")]
    resumed = run("resume", "source=twilio", "type=call.lost")
    assert resumed.returncode == 0
    assert resumed.stderr == "source=twilio resumed\ntype=call.lost was not paused\n"
    assert paused(db) == [("type", "call.ringing", False, "moving")]


def test_a_name_that_no_event_has_is_paused_with_a_warning(run, db):
    add(db)

    done = run("pause", "source=twillio", "source=twilio", "type=call.rinning", "type=call.ringing")

    assert done.returncode == 0
    assert done.stderr == (
        "warning: source=twillio: no event of it lately; paused for those to come\n"
        "warning: type=call.rinning: no event of it lately; paused for those to come\n"
    )
    assert len(paused(db)) == 4


@pytest.mark.parametrize(
    "state", [{}, {"processed_at": "now", "outcome": "handled"}, {"dead_at": "now", "last_error": "x"}]
)
def test_a_name_is_known_by_any_of_its_events(db, state):
    add(db, **state)

    assert pauses.unknown(db, [TWILIO, RINGING]) == []


def test_a_name_is_known_by_an_event_that_waits_however_many_are_newer(db):
    add(db)
    db.execute(
        "INSERT INTO webhook_events (source, provider, event_id, event_type, payload, processed_at, outcome)"
        " SELECT 'vapi', 'vapi', n, 'call.queued', '{}', now(), 'handled' FROM generate_series(1, 10000) AS n"
    )

    assert pauses.unknown(db, [TWILIO, RINGING]) == []


def test_without_a_target_it_lists(run, db):
    assert run("pause").stderr == "nothing is paused\n"
    pauses.pause(db, [TWILIO], None, "moving")

    assert "source=twilio\tresumed by hand\t0" in run("pause").stdout


@pytest.mark.parametrize(
    "arguments", [["twilio"], ["handler=x"], ["source="], ["--for", "30m"], ["source=a", "--for", "0s"]]
)
def test_what_can_not_be_paused_is_wrong_usage(run, arguments):
    assert run("pause", *arguments).returncode == 2


def test_pausing_again_moves_the_end_and_keeps_the_beginning(db):
    pauses.pause(db, [TWILIO], timedelta(minutes=30), "a")
    (first,) = pauses.pauses(db)

    pauses.pause(db, [TWILIO], None, "b")

    (second,) = pauses.pauses(db)
    assert (second["until"], second["reason"], second["paused_at"]) == (None, "b", first["paused_at"])


def test_a_pause_that_ended_is_told_for_a_day_and_begins_anew(db):
    pauses.pause(db, [TWILIO, RINGING], timedelta(minutes=30), "")
    db.execute("UPDATE webhook_pauses SET until = now() - interval '2 days' WHERE kind = 'source'")
    db.execute(
        "UPDATE webhook_pauses SET until = now() - interval '1 hour', paused_at = '2026-01-01' WHERE kind = 'type'"
    )

    assert paused(db) == [("type", "call.ringing", True, "")]
    pauses.pause(db, [RINGING], None, "again")
    (row,) = pauses.pauses(db)
    assert (row["ended"], row["paused_at"].year > 2025) == (False, True)
    assert db.execute("SELECT paused_at > '2026-01-02' FROM webhook_pauses WHERE kind = 'type'").fetchone() == (True,)


def test_who_paused_and_resumed_is_noted(db):
    pauses.pause(db, [TWILIO], timedelta(minutes=30), "moving")
    pauses.resume(db, [TWILIO, RINGING], "")
    pauses.resume(db, [TWILIO], "")

    found = [(row["verb"], row["chosen"], row["reason"]) for row in actions.recent(db, 10)]

    assert found == [
        ("resume", {"of": ["source=twilio"]}, ""),
        ("pause", {"of": ["source=twilio"], "for_seconds": 1800.0}, "moving"),
    ]


def test_what_is_paused_waits_and_is_handled_once_resumed(db):
    event, other = add(db), add(db, source="other")
    pauses.pause(db, [TWILIO], None, "")
    process(db)
    assert (look(db, event, "processed_at"), look(db, other, "processed_at IS NULL")) == ((None,), (False,))

    pauses.resume(db, [TWILIO], "")
    process(db)

    assert look(db, event, "processed_at IS NULL") == (False,)
