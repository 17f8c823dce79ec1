"""Dead letters: grouped by what they died of, revived, deleted."""

import pytest

from processor import operations
from processor.operations import Filter
from tests.commands import lines, runner
from tests.inbox import add, look


@pytest.fixture
def run(dsn):
    return runner(dsn)


def add_dead(db, reason="ConnectionError: crm is down", event_type="call.ringing", dead_at="2026-01-01"):
    return add(db, event_type, attempts=12, last_error=reason, dead_at=dead_at)


def test_groups_are_by_type_and_how_the_error_begins_the_largest_first(run, db):
    add_dead(db, "Discard: no reminder 'rem_1'")
    add_dead(db, "Discard: no reminder 'rem_22'")
    newest = add_dead(db, 'Discard: no reminder "3"')
    add_dead(db, "Discard: no reminder 'rem_1'", "call.completed")
    add(db)

    found = lines(run("dead", "groups", "--json"))

    assert [(row["event_type"], row["reason"], row["events"]) for row in found] == [
        ("call.ringing", "Discard: no reminder …", 3), ("call.completed", "Discard: no reminder …", 1),
    ]  # fmt: skip
    assert found[0]["example"] == newest
    assert run("dead", "groups", "--type", "call.lost").returncode == 3


def test_crashes_of_all_workers_are_one_group(run, db):
    for worker in ("host-a:17", "host-b:4"):
        add_dead(db, f"Crash: worker {worker} died while it handled this event (signal SIGSEGV)")

    (group,) = lines(run("dead", "groups", "--json"))

    assert group["reason"] == "Crash: … died while it handled this event (signal SIGSEGV)"


def test_dead_replay_revives_dead_letters_only(run, db):
    revived = add_dead(db)
    other = add_dead(db, "Discard: no")
    processed = add(db, processed_at="2026-01-01", outcome="handled")

    done = run("dead", "replay", "--error", "connectionerror")

    assert done.returncode == 0, done.stderr
    assert [look(db, event, "replays")[0] for event in (revived, other, processed)] == [1, 0, 0]


@pytest.mark.parametrize("verb", ["replay", "purge"])
def test_without_any_filter_it_needs_all(run, db, verb):
    event = add_dead(db)

    refused = run("dead", verb, "--yes")
    assert (refused.returncode, look(db, event, "replays")) == (2, (0,))

    assert run("dead", verb, "--all", "--yes").returncode == 0
    assert db.execute("SELECT count(*) FROM dead_letters").fetchone() == (0,)


def test_a_purge_asks_even_for_one_and_says_that_it_is_for_good(run, db):
    event = add_dead(db)

    refused = run("dead", "purge", event)

    assert refused.returncode == 2
    assert "for good" in refused.stderr
    assert "needs --yes" in refused.stderr
    assert operations.find(db, Filter()) == [event]


def test_a_purge_deletes_what_is_dead_for_longer_and_all_that_is_kept_of_it(run, db):
    old = add_dead(db)
    add_dead(db, dead_at="now")
    add(db, processed_at="2026-01-01", outcome="handled")
    db.execute(
        "INSERT INTO webhook_duplicates (source, event_id, same_body, body_sha256)"
        " SELECT source, event_id, true, body_sha256 FROM webhook_events"
    )
    db.execute(
        "INSERT INTO webhook_attempts (event_id, replays, attempt, result, worker, error_class, error)"
        " SELECT id, 0, 1, 'dead', 'host:1', 'E', 'E' FROM webhook_events"
    )

    done = run("dead", "purge", "--older-than", "30d", "--yes", "--json")

    assert lines(done)[0]["purged"] == 1
    assert operations.show(db, old) is None
    for table in ("webhook_events", "webhook_duplicates", "webhook_attempts"):
        assert db.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() == (2,)


def test_a_purge_leaves_what_was_revived_meanwhile(db):
    event = add_dead(db)
    operations.replay(db, [event])

    assert operations.purge(db, [event]) == 0
    assert look(db, event, "replays") == (1,)
