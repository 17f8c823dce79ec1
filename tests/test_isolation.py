"""What a handler does wrong is its own event's outcome, and nobody else's."""

import asyncio
import sys

import psycopg
import pytest
from psycopg.rows import dict_row

from processor import on
from processor.loop import Processor
from tests.handler_fixtures import effects, no_handlers, work, write
from tests.inbox import add, look, process

__all__ = ["effects", "no_handlers", "work"]


@pytest.mark.parametrize(
    "misdeed",
    [
        "COMMIT",
        "END",
        "COMMIT AND CHAIN",
        "COMMIT; BEGIN",
        "PREPARE TRANSACTION 'mine'",
        "ROLLBACK",
        "ROLLBACK; BEGIN",
        "ROLLBACK AND CHAIN",
        "RELEASE SAVEPOINT webhook_inbox_event",
        "ROLLBACK TO SAVEPOINT webhook_inbox_event; RELEASE SAVEPOINT webhook_inbox_event",
        "ROLLBACK; BEGIN; SAVEPOINT webhook_inbox_event",
    ],
)
@pytest.mark.parametrize("hidden", [False, True], ids=["raising", "hiding the error"])
def test_a_handler_that_ends_the_transaction_in_sql_has_no_effect_and_doubles_none(db, effects, work, misdeed, hidden):
    @on("call.ringing")
    def handle(event, conn):
        write(event, conn)
        if event.id != bad:
            return
        try:
            conn.execute(misdeed)
        except psycopg.Error:
            if not hidden:
                raise
        write(event, conn, "afterwards")

    first, bad, last = add(db), add(db), add(db)

    work()

    assert effects() == [(first, "done"), (last, "done")]
    assert look(db, bad, "processed_at, attempts") == (None, 1)


def test_a_handlers_commit_is_refused_by_name(db, work):
    on("call.ringing")(lambda event, conn: conn.execute("COMMIT"))
    event = add(db)

    work()

    assert look(db, event, "last_error") == (
        "InvalidTransactionTermination: a handler must not commit the transaction it was given (2D000)",
    )


def test_a_handlers_rollback_is_told_by_name(db, work):
    @on("call.ringing")
    def handle(event, conn):
        conn.execute("ROLLBACK")

    event = add(db)

    work()

    (error,) = look(db, event, "last_error")
    assert error.endswith("handle ended the transaction it was given")


def test_a_handler_may_check_its_own_constraints_early(db, work):
    db.execute("CREATE TABLE own (id bigint CONSTRAINT mine UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    on("call.ringing")(lambda event, conn: conn.execute("SET CONSTRAINTS mine IMMEDIATE"))
    event = add(db)
    try:
        work()
    finally:
        db.execute("DROP TABLE own")

    assert look(db, event, "outcome") == ("handled",)


def test_a_handler_that_sets_all_constraints_would_disarm_the_guard_and_is_told_to_name_them(db, work):
    on("call.ringing")(lambda event, conn: conn.execute("SET CONSTRAINTS ALL IMMEDIATE"))
    event = add(db)

    work()

    (error,) = look(db, event, "last_error")
    assert "a handler must name the constraints that it sets, not ALL" in error


@pytest.mark.parametrize(
    "left_behind",
    [
        "SET search_path = elsewhere",
        "SET ROLE pg_monitor",
        "SET SESSION AUTHORIZATION pg_monitor",
        "SET statement_timeout = 1000",
        "SET LOCAL lock_timeout = 1000",
        "SET default_transaction_read_only = on",
        "SET session_replication_role = replica",
        "CREATE TEMPORARY TABLE effects (event bigint, note text)",
        "DECLARE left_open CURSOR WITH HOLD FOR SELECT 1",
        "SELECT pg_advisory_lock(4711)",
        "LISTEN elsewhere",
    ],
)
@pytest.mark.parametrize("failing", [False, True], ids=["handled", "failed"])
def test_what_a_handler_left_on_the_session_is_gone_before_the_next(db, work, left_behind, failing):
    seen = []
    state = """
        SELECT current_user, session_user, current_setting('search_path'), current_setting('statement_timeout'),
               current_setting('lock_timeout'), current_setting('default_transaction_read_only'),
               current_setting('session_replication_role'), to_regclass('pg_temp.effects'),
               (SELECT count(*) FROM pg_cursors WHERE name = 'left_open'),
               (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711),
               (SELECT count(*) FROM pg_listening_channels())
    """

    @on("call.ringing")
    def handle(event, conn):
        seen.append(conn.execute(state).fetchone())
        if event.id == bad:
            conn.execute(left_behind)
            if failing:
                raise RuntimeError

    _, bad, _ = add(db), add(db), add(db)

    work()

    before, at_its_start, after = seen
    assert before == at_its_start == after


def test_a_channel_that_a_handler_listens_to_is_not_heard_in_the_next_batch(db, dsn):
    heard = []

    @on("call.ringing")
    def handle(event, conn):
        # A transaction listens from its end on.
        heard.extend(conn.execute("SELECT pg_listening_channels()").fetchall())
        conn.execute("LISTEN elsewhere")

    add(db)
    add(db)

    Processor(lambda: psycopg.connect(dsn, autocommit=True), batch_size=1).run(0.05, once=True)

    assert heard == []


@pytest.mark.parametrize("failing", [False, True], ids=["handled", "failed"])
def test_a_handler_that_resets_all_does_not_switch_off_the_watch_over_its_connection(db, work, failing):
    watched = []

    @on("call.ringing")
    def handle(event, conn):
        watched.append(conn.execute("SHOW client_connection_check_interval").fetchone())
        conn.execute("RESET ALL")
        if failing:
            raise RuntimeError

    add(db)
    add(db)

    work()

    assert watched == [("1s",), ("1s",)]


def test_a_handler_may_set_how_statements_run_and_rows_come_and_the_next_has_it_as_ever(db, work):
    found = []

    @on("call.ringing")
    def handle(event, conn):
        found.append((conn.execute("SELECT 1 AS one").fetchone(), conn.cursor_factory, conn.prepare_threshold))
        conn.row_factory, conn.cursor_factory, conn.prepare_threshold = dict_row, psycopg.ClientCursor, 0

    add(db)
    add(db)

    work()

    assert found[1] == found[0]


def test_a_memory_error_is_that_events_failure(db, effects, work):
    @on("call.ringing")
    def handle(event, conn):
        write(event, conn)
        if event.id == bad:
            bytearray(1 << 62)

    bad, good = add(db), add(db)

    work()

    assert effects() == [(good, "done")]
    assert look(db, bad, "left(last_error, 11)") == ("MemoryError",)


def test_a_database_whose_default_is_serializable_changes_nothing(db, dsn):
    levels = []
    on("call.ringing")(lambda event, conn: levels.extend(conn.execute("SHOW transaction_isolation").fetchone()))
    events = [add(db, subject="call/1"), add(db, subject="call/1")]
    options = "-c default_transaction_isolation=serializable"

    Processor(lambda: psycopg.connect(dsn, autocommit=True, options=options)).run(0.05, once=True)

    assert levels == ["read committed"] * 2
    assert [look(db, event, "outcome") for event in events] == [("handled",)] * 2


def test_a_swallowed_sql_error_fails_its_event_alone(db, effects):
    @on("call.ringing")
    def handle(event, conn):
        if event.id == bad:
            try:
                conn.execute("SELECT 1 / 0")
            except psycopg.Error:
                return
        write(event, conn)

    bad, good = add(db), add(db)

    process(db)

    assert effects() == [(good, "done")]
    (error,) = look(db, bad, "last_error")
    assert "hid an SQL error" in error


def test_sys_exit_in_a_handler_is_that_events_failure(db):
    on("call.ringing")(lambda event, conn: sys.exit(1))
    event = add(db)

    process(db)

    assert look(db, event, "processed_at, attempts, last_error") == (None, 1, "SystemExit: 1")


def test_commit_and_rollback_are_forbidden_to_a_handler(db):
    on("call.ringing")(lambda event, conn: conn.commit())
    event = add(db)

    process(db)

    assert look(db, event, "processed_at, attempts") == (None, 1)


def test_a_handler_that_ends_its_connection_fails_alone_and_the_worker_goes_on(db, dsn, effects):
    @on("call.ringing")
    def handle(event, conn):
        if event.id == bad:
            conn.close()
        else:
            write(event, conn)

    first, bad, last = add(db), add(db), add(db)

    worker = Processor(lambda: psycopg.connect(dsn, autocommit=True))
    worker.run(0.05, once=True)

    assert effects() == [(first, "done"), (last, "done")]
    assert look(db, bad, "processed_at, attempts") == (None, 1)


def test_a_failure_of_several_lines_is_kept_and_logged_as_one(db):
    @on("call.ringing")
    def handle(event, conn):
        raise ConnectionError("crm is down:\n\ttry later")

    event = add(db)

    process(db)

    assert look(db, event, "last_error") == ("ConnectionError: crm is down: try later",)


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    "failure", [Unprintable(), asyncio.CancelledError(), KeyboardInterrupt(), GeneratorExit(), BaseException("any")]
)
def test_whatever_a_handler_raises_fails_its_event_alone(db, effects, failure):
    @on("call.ringing")
    def handle(event, conn):
        write(event, conn)
        if event.id == bad:
            raise failure

    bad, good = add(db), add(db)

    process(db)

    assert effects() == [(good, "done")]
    assert look(db, bad, "processed_at, attempts") == (None, 1)
