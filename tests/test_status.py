"""`processor status` as a health check, and what it tells of pauses and breakers."""

import json
from datetime import timedelta

import pytest

from processor import operations, pauses
from processor.pauses import Target
from tests.commands import lines, runner
from tests.inbox import add


@pytest.fixture
def run(dsn):
    return runner(dsn)


def test_below_the_thresholds_it_exits_0(run, db):
    add(db)

    assert run("status", "--fail-if-oldest", "1h", "--fail-if-dead", "1").returncode == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--fail-if-oldest", "60s"], "the oldest event waits for 2.0 h; --fail-if-oldest is 60 s\n"),
        (["--fail-if-dead", "2"], "2 dead; --fail-if-dead is 2\n"),
        (["--fail-if-dead", "3", "--fail-if-oldest", "3h"], ""),
    ],
)
def test_at_a_threshold_it_prints_as_usual_says_which_and_exits_4(run, db, options, words):
    add(db, received_at=db.execute("SELECT now() - interval '2 hours 1 second'").fetchone()[0])
    for _ in range(2):
        add(db, dead_at="2026-01-01", last_error="x")

    done = run("status", "--json", *options)

    assert done.returncode == (4 if words else 0)
    assert done.stderr == words
    assert json.loads(done.stdout)["dead"] == 2


def test_pauses_are_shown_also_when_they_ended(run, db):
    pauses.pause(db, [Target("source", "twilio"), Target("type", "call.ringing")], timedelta(hours=1), "moving")
    db.execute("UPDATE webhook_pauses SET until = now() - interval '1 minute' WHERE kind = 'type'")

    shown = run("status").stdout
    (found,) = lines(run("status", "--json"))

    assert "source=twilio\t20" in shown
    assert "type=call.ringing\tended 20" in shown
    assert [(row["name"], row["ended"]) for row in found["pauses"]] == [("twilio", False), ("call.ringing", True)]


def test_breakers_are_shown(run, db):
    db.execute(
        "INSERT INTO webhook_breakers (handler, failures, probe_at, last_error)"
        " VALUES ('mine.call_crm', 20, now(), 'ConnectionError: crm is down')"
    )

    shown = run("status").stdout
    (found,) = lines(run("status", "--json"))

    assert "mine.call_crm\t20\t" in shown
    assert "ConnectionError: crm is down" in shown
    assert [(row["handler"], row["failures"]) for row in found["breakers"]] == [("mine.call_crm", 20)]


def test_the_totals_are_the_whole_historys(run, db):
    add(db, received_at="2026-02-01 UTC")
    add(db, "call.ended", received_at="2026-01-01 UTC", dead_at="2026-01-02", last_error="x")
    for _ in range(2):
        add(db, "call.ended", received_at="2026-01-01 UTC", processed_at="2026-01-01", outcome="handled")

    shown = run("status", "--totals").stdout
    (found,) = lines(run("status", "--totals", "--json"))

    assert found["totals"] == {
        "unprocessed": 1, "processed": 2, "event_types": 2, "oldest_unprocessed": "2026-02-01T00:00:00Z"
    }  # fmt: skip
    assert "\nprocessed           2\nevent_types         2\noldest_unprocessed  2026-02-01" in shown


def test_without_events_the_totals_are_none(db):
    assert operations.totals(db) == operations.History(0, 0, 0, None)
