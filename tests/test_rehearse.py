"""`replay --rehearse`: what the handlers would do, and that nothing of it stays."""

import os
import subprocess
import sys
from dataclasses import asdict
from functools import partial

import psycopg
import pytest

from processor import Discard, RetryLater, on, registry
from processor.rehearse import rehearse
from sql import database
from tests.commands import lines, runner
from tests.inbox import add, look

SQL = {
    "commit": "COMMIT",
    "swap": "ROLLBACK; BEGIN; SAVEPOINT webhook_inbox_event",
    "release": "RELEASE SAVEPOINT webhook_inbox_event",
}
INSERT = "INSERT INTO messages VALUES ('a', 'twilio', %s, 'sent', NULL, %s)"


def act(event, conn):
    """Write, and then do what the payload says."""
    conn.execute(INSERT, (event.key, event.id))
    what = event.payload.get("do")
    if what == "update":
        conn.execute("UPDATE messages SET state = 'read' WHERE message_id = %s", [event.key])
        conn.execute("DELETE FROM calls")
    elif what == "fail":
        raise ConnectionError("crm is down")
    elif what == "discard":
        raise Discard("not ours")
    elif what == "later":
        raise RetryLater(60)
    elif what == "exit":
        sys.exit(3)
    elif what in SQL:
        conn.execute(SQL[what])
    elif what == "close":
        conn.close()


def call_others(event):
    pytest.fail("a handler with outside effects was rehearsed")


@pytest.fixture
def rehearsed(dsn, monkeypatch):
    """Function that rehearses events and returns what became of each."""
    monkeypatch.setattr(registry, "HANDLERS", [])
    on("call.ringing", "call.completed", max_attempts=1)(act)
    on("call.answered", "call.completed", outside=True)(call_others)
    return lambda *ids: list(rehearse(partial(psycopg.connect, dsn, **database.CONNECT), list(ids)))


def kept(db):
    """Return the rows of messages, calls and attempts."""
    return db.execute(
        "SELECT (SELECT count(*) FROM messages), (SELECT count(*) FROM calls), (SELECT count(*) FROM webhook_attempts)"
    ).fetchone()


def test_rows_are_counted_by_table_and_event_and_none_stays(rehearsed, db):
    db.execute("INSERT INTO calls VALUES ('a', 'twilio', 'CA1', 'ringing', NULL, 1)")
    events = [add(db, payload={"do": "update"}) for _ in range(3)]

    for one in rehearsed(*events):
        assert (one.result, one.error) == ("handled", None)
        assert [asdict(table) for table in sorted(one.touched, key=lambda table: table.name)] == [
            {"name": "calls", "inserted": 0, "updated": 0, "deleted": 1},
            {"name": "messages", "inserted": 1, "updated": 1, "deleted": 0},
        ]
    assert kept(db) == (0, 1, 0)


@pytest.mark.parametrize(
    ("what", "result", "error"),
    [
        ("fail", "dead", "ConnectionError: crm is down"),
        ("discard", "dead", "Discard: not ours"),
        ("later", "retry", "RetryLater: to be tried again in 60 s"),
        ("exit", "dead", "SystemExit: 3"),
        ("close", "retry", "RuntimeError: "),
        ("commit", "retry", "InvalidTransactionTermination: a handler must not commit the transaction it was given"),
        (
            "swap",
            "retry",
            "InvalidTransactionTermination: a handler ended the transaction it was given",
        ),
        ("release", "retry", "InvalidSavepointSpecification: "),
    ],
)
def test_a_failure_is_told_and_marks_nothing_and_the_next_event_is_rehearsed(rehearsed, db, what, result, error):
    event, other = add(db, payload={"do": what}, attempts=3, last_error="x"), add(db)
    columns = "processed_at, outcome, dead_at, attempts, replays, last_error, next_attempt_at"
    before = look(db, event, columns)

    one, next_one = rehearsed(event, other)

    assert one.result == result
    assert (one.error or "").startswith(error)
    assert next_one.result == "handled"
    assert look(db, event, columns) == before
    assert kept(db) == (0, 0, 0)


def test_a_constraint_that_is_checked_at_commit_fails_the_rehearsal(fresh_dsn, rehearsed):
    with psycopg.connect(fresh_dsn, autocommit=True) as conn:
        conn.execute(
            "ALTER TABLE messages ADD FOREIGN KEY (app_id, provider, message_id) REFERENCES calls"
            " DEFERRABLE INITIALLY DEFERRED"
        )
        event = add(conn)

    (one,) = rehearse(partial(psycopg.connect, fresh_dsn, **database.CONNECT), [event])

    assert one.result == "retry"
    assert (one.error or "").startswith("ForeignKeyViolation: ")


def test_handlers_with_outside_effects_are_named_and_not_run(rehearsed, db):
    both, outside = add(db, "call.completed"), add(db, "call.answered")

    first, second = rehearsed(both, outside)

    name = f"{__name__}.call_others"
    assert (first.result, first.not_run, [table.inserted for table in first.touched]) == ("handled", [name], [1])
    assert (second.result, second.not_run, second.touched) == ("outside", [name], [])


def test_an_event_is_rehearsed_as_its_replay_would_be_run(dsn, db, monkeypatch):
    monkeypatch.setattr(registry, "HANDLERS", [])
    seen = []
    on("call.ringing")(lambda event, conn: seen.append((event.attempt, event.replays)))
    event = add(db, attempts=12, replays=1, dead_at="2026-01-01", last_error="x")

    (one,) = rehearse(partial(psycopg.connect, dsn, **database.CONNECT), [event])

    assert (one.result, seen) == ("handled", [(1, 2)])


def test_the_command_prints_a_line_an_event_and_exits_1_where_one_would_fail(db, dsn, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from processor import on\n@on('call.ringing')\ndef handle(event, conn):\n"
        "    conn.execute(\"INSERT INTO calls VALUES ('a', 'twilio', %s, 'ringing', NULL, 1)\", [event.event_id])\n"
        "    if 'a' in event.payload:\n        raise ConnectionError('crm is down')\n"
    )
    fine = add(db, processed_at="2026-01-01", outcome="handled")
    bad = add(db, payload={"a": 1}, dead_at="2026-01-01", last_error="x")

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "processor", "replay", "--rehearse", "--handlers", "mine", *arguments],
            env={**os.environ, "DATABASE_URL": dsn, "PYTHONPATH": str(tmp_path)},
            capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    told = run("--type", "call.ringing", "--json")
    shown = run(str(fine))

    assert told.returncode == 1, told.stderr
    assert [(row["id"], row["result"], row["rows"]["calls"]["inserted"], row["error"]) for row in lines(told)] == [
        (str(fine), "handled", 1, None), (str(bad), "retry", 1, "ConnectionError: crm is down"),
    ]  # fmt: skip
    assert told.stderr.endswith("2 events rehearsed, 1 would fail; nothing was changed\n")
    assert shown.returncode == 0
    assert "calls +1 ~0 -0" in shown.stdout
    assert look(db, fine, "replays") == look(db, bad, "replays") == (0,)
    assert kept(db) == (0, 0, 0)


def test_the_command_needs_a_filter_and_handlers(dsn, db):
    run = runner(dsn)
    add(db)

    assert run("replay", "--rehearse").returncode == 2
    assert run("replay", "--rehearse", "1", "--handlers", "no_such_module").returncode == 78
