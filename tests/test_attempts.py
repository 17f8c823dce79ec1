"""What is kept of attempts: a row for each that failed, the duration and version of the one that succeeded."""

import hashlib
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from processor import Discard, RetryLater, on, operations, registry
from processor.session import worker_name
from sql import load
from tests.inbox import add, look, make_due, process
from tests.processes import processor, wait_for

ATTEMPTS = "SELECT {} FROM webhook_attempts WHERE event_id = %s ORDER BY id"
OURS = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]


@pytest.fixture
def handlers(monkeypatch):
    monkeypatch.setattr(registry, "HANDLERS", [])
    return monkeypatch


def attempts(conn, event, columns):
    return conn.execute(ATTEMPTS.format(columns).encode(), [event]).fetchall()


def test_each_failed_attempt_has_a_row(db, handlers):
    @on("call.ringing", max_attempts=2)
    def call_the_crm(event, conn):
        raise ConnectionError("crm is down")

    event = add(db)

    process(db)
    make_due(db)
    process(db)

    name = f"{__name__}.{call_the_crm.__qualname__}"
    columns = "attempt, result, worker, handler, handler_version, error_class, error, seconds < 1"
    row = (worker_name(), name, OURS, "ConnectionError", "ConnectionError: crm is down", True)
    assert attempts(db, event, columns) == [(1, "retry", *row), (2, "dead", *row)]


def test_a_success_keeps_its_duration_and_version_on_the_event(db, handlers):
    on("call.ringing")(lambda event, conn: None)
    event = add(db)

    process(db)

    assert look(db, event, "seconds >= 0 AND seconds < 1, handler_version") == (True, OURS)
    assert attempts(db, event, "id") == []


def test_a_deployment_may_name_its_version(db, handlers):
    handlers.setenv("HANDLERS_VERSION", "2026.11.21-a1b2c3d")
    on("call.ringing")(lambda event, conn: None)
    event = add(db)

    process(db)

    assert look(db, event, "handler_version") == ("2026.11.21-a1b2c3d",)


def test_a_wait_that_was_asked_for_is_no_failed_attempt(db, handlers):
    on("call.ringing")(lambda event, conn: RetryLater(60))
    event = add(db)

    process(db)

    assert attempts(db, event, "id") == []


def test_a_discard_is_kept_as_what_made_it_dead(db, handlers):
    on("call.ringing")(lambda event, conn: Discard("no such customer"))
    event = add(db)

    process(db)

    assert attempts(db, event, "result, error") == [("dead", "Discard: no such customer")]


def test_what_made_an_event_dead_is_kept_also_where_no_handler_ran(db, handlers):
    event = add(db, "unparseable", payload=None, parse_error="expected JSON")
    db.execute("UPDATE webhook_events SET payload = NULL WHERE id = %s", [event])

    process(db)

    assert attempts(db, event, "result, error") == [("dead", "expected JSON")]


def test_how_a_worker_died_is_not_said_of_an_event_that_it_was_not_counted_against(db):
    event = add(db, attempts=1, last_error="ConnectionError: crm is down")

    db.execute(load("explain_crash"), {"id": event, "worker": "host:12", "how": "signal SIGKILL"})

    assert look(db, event, "last_error") == ("ConnectionError: crm is down",)


def test_attempts_outlive_a_replay_and_say_which_life_they_belong_to(db, handlers):
    @on("call.ringing", max_attempts=1)
    def handle(event, conn):
        raise ConnectionError

    event = add(db)
    process(db)
    operations.replay(db, [event])
    process(db)

    assert attempts(db, event, "replays, attempt") == [(0, 1), (1, 1)]


def test_attempts_go_with_their_event(db, handlers):
    on("call.ringing")(lambda event, conn: 1 / 0)
    event = add(db)
    process(db)

    db.execute("DELETE FROM webhook_events")

    assert attempts(db, event, "id") == []


@pytest.mark.parametrize(
    "since",
    [
        {"processed_at": "2026-01-01", "outcome": "handled"},
        {"dead_at": "2026-01-01", "last_error": "by hand"},
        {"attempts": 1},
        {"lease": 7},
        {"lease": 7, "attempts": 1},
    ],
)
def test_a_failure_that_is_told_late_changes_nothing_of_an_event_that_another_had_since(db, since):
    event = add(db, **since)
    before = look(db, event, "webhook_events")
    late = {
        "id": event, "attempt": 1, "lease": None, "counted": True, "error": "Timeout: late", "error_class": "Timeout",
        "wait": timedelta(seconds=5), "yields": None, "worker": "host:12", "seconds": 1.0, "handler": "mine.handle",
        "handler_version": "v1",
    }  # fmt: skip

    db.execute(load("mark_failed"), late)

    assert look(db, event, "webhook_events") == before
    assert attempts(db, event, "id") == []


def test_a_timeout_names_the_handler_it_ended(fresh_dsn):
    with (
        psycopg.connect(fresh_dsn, autocommit=True) as conn,
        processor(fresh_dsn, "--interval", "0.05", "--handlers", "tests.poison_handlers"),
    ):
        endless = add(conn, "poison.loop")
        wait_for(lambda: look(conn, endless, "attempts") == (1,))

        row = ("Timeout", "tests.poison_handlers.never_end", 0.5)
        assert attempts(conn, endless, "error_class, handler, seconds") == [row]


def test_a_run_that_the_servers_restart_ended_blames_nobody(db):
    event = add(db)
    db.execute(
        "INSERT INTO webhook_runs (run_id, worker, event_ids, booted_at) VALUES (7, 'gone:1', %s, '2026-01-01')",
        [[event]],
    )

    db.execute(load("reap_runs"), {"most": 3})

    assert look(db, event, "crashes, attempts, suspect, last_error") == (0, 0, False, None)
    assert db.execute("SELECT count(*) FROM webhook_runs").fetchone() == (0,)
