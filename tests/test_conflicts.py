"""What the database refuses, a handler's statement or a batch's commit: run again at once, or one event's failure."""

import threading

import psycopg
import pytest

from processor import on
from processor.loop import Processor
from sql import load
from tests.handler_fixtures import effects, no_handlers, work
from tests.inbox import add, look
from tests.processes import DEADLINE, wait_for

__all__ = ["effects", "no_handlers", "work"]


def test_a_deadlock_is_run_again_at_once_and_costs_no_attempt(db, dsn, effects, work):
    db.execute("INSERT INTO effects VALUES (-1, 'a'), (-2, 'b')")
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    runs = []

    def rival():
        with psycopg.connect(dsn) as conn:
            conn.execute("SET LOCAL deadlock_timeout = '10min'")  # so that it is we who notice
            conn.execute("UPDATE effects SET note = 'rival' WHERE event = -2")
            conn.execute("UPDATE effects SET note = 'rival' WHERE event = -1")

    @on("call.ringing")
    def handle(event, conn):
        runs.append(event.attempt)
        if len(runs) > 1:
            other.join(DEADLINE)  # or we could take the first row before it does, and meet it again
            return
        conn.execute("SET LOCAL deadlock_timeout = '10ms'")
        conn.execute("UPDATE effects SET note = 'ours' WHERE event = -1")
        other.start()
        wait_for(lambda: db.execute(waiting).fetchone() == (1,))
        conn.execute("UPDATE effects SET note = 'ours' WHERE event = -2")

    other = threading.Thread(target=rival)
    event = add(db)

    work()
    other.join()

    assert look(db, event, "outcome, attempts") == ("handled", 1)
    assert runs == [1, 1]


@pytest.fixture
def conflicts(db):
    """Make a table whose rows the database refuses so many times: at once, or when they are committed."""

    def make(times, timing):
        db.execute("CREATE SEQUENCE refusals")
        db.execute("CREATE TABLE contended (event bigint)")
        db.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" IF nextval('refusals') <= {times} THEN RAISE 'conflict' USING ERRCODE = '40001'; END IF;"
            " RETURN NULL; END $$"
        )
        db.execute(
            "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON contended DEFERRABLE"
            f" INITIALLY {timing} FOR EACH ROW EXECUTE FUNCTION refuse()"
        )

    yield make
    db.execute("DROP TABLE contended")
    db.execute("DROP FUNCTION refuse")
    db.execute("DROP SEQUENCE refusals")


@pytest.mark.parametrize("timing", ["IMMEDIATE", "DEFERRED"])
@pytest.mark.parametrize("times", [3, 4])
def test_three_serialization_failures_in_a_row_cost_no_attempt_and_a_fourth_does(db, work, conflicts, timing, times):
    on("call.ringing")(lambda event, conn: conn.execute("INSERT INTO contended VALUES (%s)", [event.id]))
    conflicts(times, timing)
    event = add(db)

    work()

    assert look(db, event, "outcome, attempts") == ("handled" if times == 3 else None, 1)


def test_batches_refused_in_favour_of_others_are_counted_from_the_last_that_was_committed(db, dsn, conflicts):
    on("call.ringing")(lambda event, conn: conn.execute("INSERT INTO contended VALUES (%s)", [event.id]))
    conflicts(3, "DEFERRED")
    worker = Processor(lambda: psycopg.connect(dsn, autocommit=True))
    events = []

    for _ in range(2):
        events.append(add(db))
        db.execute("ALTER SEQUENCE refusals RESTART")
        worker.run(0.05, once=True)

    assert [look(db, event, "outcome, attempts") for event in events] == [("handled", 1)] * 2


def test_a_deferred_constraint_that_fails_at_commit_fails_its_event_alone(db, dsn):
    db.execute(
        "CREATE TABLE owed (event bigint PRIMARY KEY, paid bigint REFERENCES owed DEFERRABLE INITIALLY DEFERRED)"
    )
    try:

        @on("call.ringing")
        def handle(event, conn):
            conn.execute("INSERT INTO owed VALUES (%s, %s)", (event.id, -1 if event.id == bad else event.id))

        first, bad, last = add(db), add(db), add(db)

        worker = Processor(lambda: psycopg.connect(dsn, autocommit=True))
        worker.run(0.05, once=True)

        assert db.execute("SELECT event FROM owed ORDER BY event").fetchall() == [(first,), (last,)]
        assert look(db, bad, "processed_at, attempts") == (None, 1)
        assert "ForeignKeyViolation" in look(db, bad, "last_error")[0]
    finally:
        db.execute("DROP TABLE owed")


@pytest.mark.parametrize("misdeed", ["close", "owe"])
def test_a_refused_batch_is_no_crash_for_another_worker_that_looks_at_once(db, dsn, misdeed):
    db.execute("CREATE TABLE owed (id bigint PRIMARY KEY, paid bigint REFERENCES owed DEFERRABLE INITIALLY DEFERRED)")
    try:

        @on("call.ringing")
        def handle(event, conn):
            if misdeed == "close":
                conn.close()
            else:
                conn.execute("INSERT INTO owed VALUES (1, 2)")

        def connect():
            db.execute(load("reap_runs"), {"most": 1})  # as the other does, between any two connections of ours
            return psycopg.connect(dsn, autocommit=True)

        event = add(db)

        Processor(connect).run(0.05, once=True)

        assert look(db, event, "crashes, attempts") == (0, 1)
    finally:
        db.execute("DROP TABLE owed")


def test_a_commit_refused_as_canceled_is_its_events_failure_and_no_outage(db, dsn):
    db.execute("CREATE TABLE owed (event bigint)")
    db.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN IF NEW.event = 1 THEN RAISE 'no' USING ERRCODE = '57014'; END IF; RETURN NULL; END $$"
    )
    db.execute(
        "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON owed DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    try:
        on("call.ringing")(lambda event, conn: conn.execute("INSERT INTO owed VALUES (%s)", [event.id]))
        bad, good = add(db), add(db)

        Processor(lambda: psycopg.connect(dsn, autocommit=True)).run(0.05, once=True)

        assert look(db, bad, "processed_at, attempts") == (None, 1)
        assert look(db, good, "outcome") == ("handled",)
    finally:
        db.execute("DROP TABLE owed")
        db.execute("DROP FUNCTION refuse")
