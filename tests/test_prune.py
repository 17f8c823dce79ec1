"""Retention: what goes, what never does, and what an event without its body still is."""

import threading
from datetime import timedelta
from hashlib import sha256

import psycopg
import pytest

import sql as statements
from processor import actions, on, operations, prune, registry
from processor.prune import Ages, Prune, Removed
from tests.commands import lines, runner
from tests.inbox import add, look, process
from tests.processes import processor, wait_for
from tests.test_schema import explain

DAY = timedelta(days=1)
EVENTS, BODIES = Ages(events=90 * DAY), Ages(bodies=7 * DAY)
OLD = "2020-01-01"
BODY = b"From=%2B15555550100"
SENT = {"payload": {"From": "+15555550100"}, "body": BODY, "headers": '{"user-agent": "x"}',
        "url": "https://a.example/twilio?From=%2B15555550100"}  # fmt: skip


@pytest.fixture
def run(dsn):
    return runner(dsn)


def add_old(db, **columns):
    """Insert an event that was received and processed long ago."""
    return add(db, **{"received_at": OLD, "processed_at": OLD, "outcome": "handled", **columns})


def pruned(db, ages, **options):
    pruning = Prune(ages)
    assert pruning.run(db, **options)
    return pruning.removed


def ids(db):
    return [event for (event,) in db.execute("SELECT id FROM webhook_events ORDER BY id")]


def test_processed_events_of_that_age_go_and_nothing_else(db):
    add_old(db)
    kept = [
        add(db, received_at=OLD),
        add(db, received_at=OLD, last_error="x", next_attempt_at="2100-01-01"),
        add(db, received_at=OLD, dead_at=OLD, last_error="x"),
        add_old(db, processed_at=db.execute("SELECT now() - interval '89 days'").fetchone()[0]),
        add(db),
    ]

    assert pruned(db, EVENTS) == Removed(events=1)
    assert ids(db) == kept
    assert pruned(db, Ages(bodies=DAY)) == Removed(bodies=1)
    assert [look(db, event, "body_removed_at IS NULL")[0] for event in kept] == [True, True, True, False, True]


def test_what_is_kept_elsewhere_of_an_event_goes_with_it(db):
    add_old(db)
    add(db)
    db.execute(
        "INSERT INTO webhook_duplicates (source, event_id, same_body, body_sha256)"
        " SELECT source, event_id, true, body_sha256 FROM webhook_events"
    )
    db.execute(
        "INSERT INTO webhook_attempts (event_id, replays, attempt, result, worker, error_class, error)"
        " SELECT id, 0, 1, 'retry', 'host:1', 'E', 'E' FROM webhook_events"
    )
    actions.begin(db, "replay", {}, ids=[1])
    db.execute("UPDATE webhook_actions SET started_at = '2020-01-01'")

    pruned(db, EVENTS)

    for table in ("webhook_duplicates", "webhook_attempts"):
        assert db.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() == (1,)
    assert [row["verb"] for row in actions.recent(db, 10)] == ["prune"]


def test_counts_of_refusals_that_old_go_too(db):
    db.execute(
        "INSERT INTO webhook_refusals SELECT at, 'unknown', 401, 'no such source', 1, at, at"
        " FROM (VALUES (timestamptz '2020-01-01'), (now() - interval '89 days')) AS times (at)"
    )

    pruned(db, EVENTS)

    assert db.execute("SELECT day > '2020-01-01' FROM webhook_refusals").fetchall() == [(True,)]


def test_without_its_body_an_event_keeps_what_it_is_and_nothing_of_what_was_sent(db):
    event = add_old(db, **SENT)

    assert pruned(db, BODIES) == Removed(bodies=1)

    assert look(db, event, "headers, body, payload::text, url") == ({}, b"", "null", "https://a.example/twilio")
    assert look(db, event, "event_id, event_type, outcome, body_removed_at > now() - interval '1 hour'") == (
        "event-1", "call.ringing", "handled", True,
    )  # fmt: skip
    assert pruned(db, BODIES) == Removed()


def test_an_event_that_never_parsed_loses_its_body_too(db):
    event = add_old(db, body=b"\xff", payload=None)
    db.execute("UPDATE webhook_events SET payload = NULL, parse_error = 'not JSON'")

    pruned(db, BODIES)

    assert look(db, event, "body, payload, parse_error") == (b"", None, "not JSON")


def test_a_delivery_of_an_event_without_body_is_still_a_duplicate(db):
    add_old(db, **SENT, body_sha256=sha256(BODY).digest())
    pruned(db, BODIES)

    names = {"source": "twilio", "event_id": "event-1", "body": BODY, "age": "0"}
    assert db.execute(statements.load("insert_duplicate"), names).fetchone() == (1, True)


def test_a_replay_without_body_is_a_dead_letter_and_runs_no_handler(db, monkeypatch):
    monkeypatch.setattr(registry, "HANDLERS", [])
    seen = []
    on("call.ringing")(lambda event, conn: seen.append(event.id))
    empty, whole = add_old(db), add(db, processed_at="now", outcome="handled")
    pruned(db, BODIES)

    db.execute("UPDATE webhook_events SET processed_at = NULL")
    process(db)

    today = look(db, empty, "to_char(body_removed_at, 'YYYY-MM-DD')")[0]
    assert seen == [whole]
    assert look(db, empty, "dead_at IS NOT NULL, last_error") == (
        True, f"BodyRemoved: retention removed its body on {today}, so it can't be handled again",
    )  # fmt: skip
    db.execute("UPDATE webhook_events SET processed_at = NULL WHERE id = %s", [empty])
    assert look(db, empty, "dead_at IS NOT NULL, outcome") == (True, None)
    operations.skip(db, [empty])
    assert look(db, empty, "dead_at, outcome") == (None, "skipped")


def test_a_locked_event_is_waited_for_by_nobody_and_left_to_the_next_prune(db, dsn):
    locked, _ = add_old(db), add_old(db)
    with psycopg.connect(dsn) as operator:
        operator.execute("SELECT FROM webhook_events WHERE id = %s FOR UPDATE", [locked])
        db.execute("SET lock_timeout = '5s'")

        assert pruned(db, EVENTS) == Removed(events=1)
        assert pruned(db, BODIES) == Removed()

    assert ids(db) == [locked]
    assert pruned(db, EVENTS) == Removed(events=1)


def test_an_event_replayed_between_look_and_delete_stays(db):
    event = add_old(db)
    (now,) = db.execute("SELECT now()").fetchone()
    step = prune.look(db, 0, now, bodies=False)
    operations.replay(db, [event])

    db.execute(statements.load("prune_events"), {"ids": step.ids, "before": now})

    assert step.ids == [event]
    assert ids(db) == [event]


def test_the_walk_takes_steps_each_of_small_commits(db, monkeypatch):
    monkeypatch.setattr(prune, "LOOK", 4)
    monkeypatch.setattr(prune, "CHANGE", 3)
    for _ in range(2):
        add_old(db)
        add(db, received_at=OLD, dead_at=OLD, last_error="x")
    for _ in range(7):
        add_old(db)
    pruning, stopping = Prune(EVENTS), threading.Event()
    sizes = list(pruning._walk(db, "prune_events", db.execute("SELECT now()").fetchone()[0], 0, bodies=False))

    assert sizes == [2, 3, 1, 3]
    assert len(ids(db)) == 2
    stopping.set()
    assert not Prune(EVENTS, stopping).run(db)


def test_a_look_reads_no_more_than_it_looks_at_and_ends_at_what_is_young(db):
    db.execute(
        "INSERT INTO webhook_events"
        " (source, provider, event_id, event_type, payload, outcome, processed_at, received_at)"
        " SELECT 'twilio', 'twilio', n, 'x', '{}', 'handled', day, day"
        " FROM generate_series(1, 30000) AS n, LATERAL (SELECT now() - interval '1 day' * (30 - n / 1000)) AS a (day)"
    )
    db.execute("ANALYZE webhook_events")
    (before,) = db.execute("SELECT now() - interval '20 days 1 hour'").fetchone()

    plan = explain(db, statements.load("find_prunable").decode())
    first = prune.look(db, 0, before, bodies=False)
    last = prune.look(db, first.last or 0, before, bodies=False)

    assert "Index Scan using webhook_events_pkey" in plan
    assert (first.last, first.ids and len(first.ids)) == (10_000, 9_999)
    assert (last.last, last.ids) == (None, None)


def test_of_all_machines_one_prunes_within_the_time(db, dsn):
    add_old(db)
    begun = []

    def machine():
        with psycopg.connect(dsn, autocommit=True) as conn:
            begun.append(pruned(conn, EVENTS, within=timedelta(hours=1)).events)

    machines = [threading.Thread(target=machine) for _ in range(4)]
    for one in machines:
        one.start()
    for one in machines:
        one.join()

    assert sum(begun) == 1
    assert [row["verb"] for row in actions.recent(db, 10)] == ["prune"]
    add_old(db, event_id="later")
    assert pruned(db, EVENTS, within=timedelta(hours=1)) == Removed()
    assert pruned(db, EVENTS) == Removed(events=1)


def test_the_command_tells_what_it_would_do_and_then_does_it(run, db):
    add_old(db)
    recent = add_old(db, processed_at=db.execute("SELECT now() - interval '8 days'").fetchone()[0])
    options = ["--older-than", "90d", "--bodies-older-than", "7d", "--json"]

    dry = run("db", "prune", *options, "--dry-run")
    assert lines(dry) == [{"events": 1, "bodies": 1, "tombstones": 0, "dry_run": True, "ended": True}]
    assert len(ids(db)) == 2

    done = run("db", "prune", *options)
    assert lines(done) == [{"events": 1, "bodies": 1, "tombstones": 0, "dry_run": False, "ended": True}]
    assert done.stderr == "1 event and 1 bodies were removed\n"
    assert ids(db) == [recent]
    (noted,) = actions.recent(db, 10)
    assert (noted["done"], noted["chosen"]["events_older_than"]) == (2, 90 * 86400)


@pytest.mark.parametrize(
    "options",
    [[], ["--older-than", "90"], ["--older-than", "0d"], ["--older-than", "7d", "--bodies-older-than", "7d"]],
)
def test_what_makes_no_sense_is_wrong_usage_and_removes_nothing(run, db, options):
    add_old(db)

    assert run("db", "prune", *options).returncode == 2
    assert len(ids(db)) == 1


def test_a_running_processor_prunes_by_setting_and_stops_at_once(db, dsn):
    add_old(db)
    empty = add_old(db, processed_at=db.execute("SELECT now() - interval '8 days'").fetchone()[0])

    with processor(dsn, "--prune-older-than", "90d", "--prune-bodies-older-than", "7d") as command:
        wait_for(lambda: ids(db) == [empty] and look(db, empty, "body_removed_at IS NOT NULL")[0])
        wait_for(lambda: actions.recent(db, 1)[0]["ended_at"])
        assert command.stop() == 0


def test_a_role_without_the_right_prunes_nothing(fresh_dsn):
    with psycopg.connect(fresh_dsn, autocommit=True) as conn:
        conn.execute(statements.load("grant_roles"))
        add_old(conn)
        conn.execute("SET ROLE webhook_processor")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            pruned(conn, EVENTS)
        conn.execute("SET ROLE webhook_pruner")

        assert pruned(conn, Ages(90 * DAY, 7 * DAY)) == Removed(events=1)
