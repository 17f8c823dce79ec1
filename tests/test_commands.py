"""The commands as an operator runs them: real processes, exit codes, data on stdout and words on stderr."""

import json
import os
import signal
import subprocess
import sys

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.commands import runner
from tests.inbox import add, look
from tests.processes import DEADLINE, processor


@pytest.fixture
def run(dsn):
    return runner(dsn)


def test_help_teaches_every_command(run):
    for command in ("run", "status", "events list", "events show", "replay", "skip", "dead list", "handlers", "demo",
                    "db migrate", "db status", "db sql", "db prune", "events tail", "dead groups", "dead replay",
                    "dead purge", "pause", "resume", "actions", "doctor", "completion"):  # fmt: skip
        done = run(*command.split(), "--help")
        assert done.returncode == 0
        assert len(done.stdout.splitlines()) > 4, command


def test_the_examples_in_the_help_stand_a_line_each(run):
    shown = run("--help").stdout.splitlines()

    assert "  processor run --interval 5 --handlers myapp     process events until SIGTERM" in shown
    assert run("--version").stdout.startswith("processor, version ")


def test_run_once_processes_what_is_due_with_the_handlers_that_ship(run, db):
    event = add(db, "call.completed")

    done = run("run", "--once")

    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "event handled id=1 type=call.completed attempt=1" in done.stderr
    assert look(db, event, "outcome") == ("handled",)
    assert db.execute("SELECT call_id, state FROM calls").fetchall() == [("CA1", "completed")]


def test_run_takes_only_the_sources_and_types_it_is_given(run, db):
    add(db, "call.ringing")
    add(db, "call.completed", source="other")
    add(db, "call.ringing", source="other")

    run("run", "--once", "--source", "other", "--type", "call.ringing")

    assert db.execute("SELECT id FROM webhook_events WHERE processed_at IS NOT NULL").fetchall() == [(3,)]


def test_max_events_bounds_a_run(run, db):
    for _ in range(5):
        add(db)

    run("run", "--max-events", "3")

    assert db.execute("SELECT count(*) FROM webhook_events WHERE processed_at IS NULL").fetchone() == (2,)


def test_a_users_own_handlers_are_found_in_the_current_directory(dsn, db, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from processor import on\n@on('call.ringing')\ndef handle(event, conn):\n    conn.execute('SELECT 1')\n"
    )
    add(db)

    done = subprocess.run(
        [sys.executable, "-P", "-m", "processor", "run", "--once", "--handlers", "mine"],
        env={**os.environ, "DATABASE_URL": dsn}, cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert "event handled" in done.stderr


def test_an_unknown_log_level_is_told_and_is_info(run):
    done = run("run", "--once", LOG_LEVEL="loud")

    assert done.returncode == 0
    assert "WARNING log LOG_LEVEL unknown value=LOUD; expected DEBUG, INFO, WARNING, ERROR or CRITICAL" in done.stderr


def test_handlers_that_can_not_be_imported_stop_the_start(run):
    done = run("run", "--once", "--handlers", "no_such_module")

    assert done.returncode == 78
    assert "handlers 'no_such_module': can't be imported" in done.stderr


def test_a_blank_handlers_variable_closes_no_event_unhandled(run, db):
    event = add(db)

    done = run("run", "--once", HANDLERS=" ")

    assert done.returncode == 78
    assert look(db, event, "outcome") == (None,)


@pytest.fixture
def stranger(fresh_dsn):
    """Connection string of a role that may connect, and nothing else."""
    name = sql.Identifier(f"inbox_stranger_{os.getpid()}")
    with psycopg.connect(fresh_dsn, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'strange'").format(name))
        yield make_conninfo(fresh_dsn, user=f"inbox_stranger_{os.getpid()}", password="strange")
        conn.execute(sql.SQL("DROP ROLE {}").format(name))


def test_a_processor_without_the_rights_ends_with_78(stranger):
    with processor(stranger, "--interval", "0.1", "--handlers", "tests.crash_handlers") as running:
        assert running.process.wait(DEADLINE) == 78


def test_sigterm_ends_an_idle_processor_at_once_with_0(dsn, db):
    add(db)
    with subprocess.Popen(
        [sys.executable, "-m", "processor", "run", "--interval", "60"],
        env={**os.environ, "DATABASE_URL": dsn}, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        assert "processor started" in process.stderr.readline()
        assert any("event handled" in line for line in process.stderr), "it is idle from now on"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        output = process.stderr.read()
        assert "worker stopped claimed=1" in output
        assert "processor stopped" in output


def test_status_counts_what_waits_and_what_is_dead(run, db):
    add(db)
    add(db, attempts=2, last_error="down", next_attempt_at="2100-01-01")
    add(db, attempts=12, last_error="down", dead_at="2026-01-01")

    headline = json.loads(run("status", "--json").stdout)

    assert {name: headline[name] for name in ("unprocessed", "due", "retrying", "dead", "processed_last_hour")} == {
        "unprocessed": 2, "due": 1, "retrying": 1, "dead": 1, "processed_last_hour": 0,
    }  # fmt: skip
    assert headline["by_type"][0]["event_type"] == "call.ringing"
    assert "unprocessed          2" in run("status").stdout


def test_events_are_listed_by_filter_newest_first_as_json_lines(run, db):
    add(db)
    second = add(db, "call.completed")
    third = add(db, "call.completed")

    done = run("events", "list", "--type", "call.completed", "--since", "1h", "--json")

    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [str(third), str(second)]


def test_nothing_matched_is_exit_3(run):
    done = run("events", "list", "--type", "call.teleported")

    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "no event matches\n"


def test_an_event_is_shown_with_its_payload_or_its_raw_bytes(run, db):
    event = add(db, payload={"CallSid": "CA1"}, body=b"CallSid=CA1\xff")

    shown = run("events", "show", str(event)).stdout
    raw = subprocess.run(
        [sys.executable, "-m", "processor", "events", "show", str(event), "--raw"],
        env={**os.environ, "DATABASE_URL": db.info.dsn + f" password={db.info.password}"},
        capture_output=True, check=True,
    )  # fmt: skip

    assert '"CallSid": "CA1"' in shown
    assert "call.ringing" in shown
    assert raw.stdout == b"CallSid=CA1\xff"


def test_what_a_stranger_wrote_can_not_steer_the_terminal(run, db):
    event = add(db, payload={"name": "\x1b[2J\u202eevil"}, last_error="\x1b]0;owned\x07\nnext")

    for arguments in (["events", "show", str(event)], ["events", "list"]):
        shown = run(*arguments).stdout
        assert "\x1b" not in shown
        assert "\u202e" not in shown
        assert "\\x1b" in shown


def test_a_replay_tells_the_count_and_changes_nothing_on_a_dry_run(run, db):
    events = [add(db, outcome="handled", processed_at="2026-01-01") for _ in range(3)]

    dry = run("replay", "--type", "call.ringing", "--dry-run")
    assert "3 events to replay" in dry.stderr
    assert look(db, events[0], "replays") == (0,)

    unasked = run("replay", "--type", "call.ringing")
    assert unasked.returncode == 2
    assert "needs --yes" in unasked.stderr
    assert look(db, events[0], "replays") == (0,)

    done = run("replay", "--type", "call.ringing", "--yes")
    assert done.returncode == 0
    assert "3 replayed" in done.stderr
    assert look(db, events[0], "replays, processed_at") == (1, None)


def test_a_replay_without_any_filter_needs_all(run, db):
    add(db, outcome="handled", processed_at="2026-01-01")

    assert run("replay", "--yes").returncode == 2
    assert "1 replayed" in run("replay", "--all", "--yes").stderr


def test_skip_closes_events_without_their_handlers(run, db):
    event = add(db)

    assert "1 skipped" in run("skip", str(event)).stderr
    assert look(db, event, "outcome") == ("skipped",)
    again = run("skip", str(event))
    assert (again.returncode, again.stderr) == (3, "no unprocessed event matches\n")


def test_an_id_that_can_be_none_is_wrong_usage(run):
    assert run("replay", "99999999999999999999").returncode == 2


def test_dead_letters_are_listed_with_their_reason(run, db):
    add(db)
    add(db, attempts=12, last_error="ConnectionError: crm is down", dead_at="2026-01-01")

    done = run("dead", "list", "--error", "CRM")

    assert "ConnectionError: crm is down" in done.stdout
    assert len(done.stdout.splitlines()) == 2


def test_handlers_lists_what_is_registered(run):
    rows = [json.loads(line) for line in run("handlers", "--json").stdout.splitlines()]

    assert {"event_type": "call.answered", "provider": "twilio", "source": "any", "max_attempts": 12,
            "handler": "handlers.call_log.keep_call", "outside": False} in rows  # fmt: skip


def test_db_migrate_status_and_sql(run, empty_dsn):
    assert "applied 0001 webhook_events" in run("db", "migrate", DATABASE_URL=empty_dsn).stderr
    assert "nothing to do" in run("db", "migrate", DATABASE_URL=empty_dsn).stderr
    assert json.loads(run("db", "status", "--json", DATABASE_URL=empty_dsn).stdout.splitlines()[0])["version"] == 1
    assert "CREATE TABLE webhook_events" in run("db", "sql").stdout
    assert "webhook_receiver" in run("db", "sql", "--grants").stdout


def test_the_printed_schema_makes_the_same_tables(run, empty_dsn):
    with psycopg.connect(empty_dsn, autocommit=True) as conn:
        conn.execute(run("db", "sql").stdout.encode())

        assert conn.execute("SELECT count(*) FROM webhook_events").fetchone() == (0,)


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        ("", 78, "set DATABASE_URL"),
        ("postgresql//u:SECRETPW@h/x", 78, "does not parse"),
        ("postgresql://u:SECRETPW@127.0.0.1:1/x", 69, "does not answer"),
    ],
)
def test_a_database_that_is_not_there_is_one_line_without_the_password(run, url, code, words):
    done = run("status", DATABASE_URL=url)

    assert done.returncode == code
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "SECRETPW" not in done.stderr


def test_a_database_without_tables_is_told_what_to_run(run, empty_dsn):
    done = run("status", DATABASE_URL=empty_dsn)

    assert done.returncode == 78
    assert "processor db migrate" in done.stderr
