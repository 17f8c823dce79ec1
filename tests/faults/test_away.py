"""A database that is slow, full, read-only, restarted, or loses its connections: answers in time, and true ones."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from receiver.store import CONNECTIONS_MAX
from tests.faults.attempts import HANDLERS, effects
from tests.faults.cable import Cable
from tests.faults.inboxes import IN_TIME, inbox, seconds, send, send_timed, until_stored
from tests.inbox import add
from tests.processes import processor, wait_for
from tests.signing import reminder

SLOW = """
    CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep({}); RETURN NEW; END';
    CREATE TRIGGER slow BEFORE INSERT ON webhook_events FOR EACH ROW EXECUTE FUNCTION sleep()
"""
SESSIONS = """
    SELECT count(*) FROM pg_stat_activity
     WHERE datname = current_database() AND application_name = 'inbox-receiver'
"""


@pytest.fixture
def db(server):
    with psycopg.connect(server.dsn, autocommit=True) as conn:
        yield conn


def stored(conn) -> int:
    return len(conn.execute("SELECT FROM webhook_events").fetchall())


@pytest.mark.parametrize(("insert_seconds", "status"), [(0.2, 200), (20, 503)])
def test_a_slow_insert_is_answered_in_time_and_the_process_lives(conn, fresh_dsn, tmp_path, insert_seconds, status):
    conn.execute(SLOW.format(insert_seconds).encode())
    with inbox(tmp_path, fresh_dsn) as receiver, ThreadPoolExecutor(1) as beside:
        sent = beside.submit(send_timed, receiver, range(CONNECTIONS_MAX))
        lives = [seconds(lambda: receiver.send("GET", "/livez", {})) for _ in range(20)]

        statuses, took = sent.result()
        assert statuses == {status}
        assert took < IN_TIME
        assert max(lives) < 1


def test_inserts_of_two_seconds_are_answered_in_time_and_are_all_stored_in_the_end(conn, fresh_dsn, tmp_path):
    conn.execute(SLOW.format(2).encode())
    with inbox(tmp_path, fresh_dsn) as receiver:
        statuses, took = send_timed(receiver, range(16))
        assert statuses <= {200, 503}
        assert took < IN_TIME
        conn.execute("DROP TRIGGER slow ON webhook_events")

        wait_for(lambda: set(send(receiver, range(16))) == {200})

    assert stored(conn) == 16


def test_an_insert_that_the_server_is_at_keeps_its_connection(conn, fresh_dsn, tmp_path):
    conn.execute(SLOW.format(8).encode())
    with inbox(tmp_path, fresh_dsn) as receiver:
        for _ in range(2):
            assert set(send(receiver, range(16))) == {503}
        (sessions,) = conn.execute(SESSIONS).fetchone()

    assert sessions <= 2 * CONNECTIONS_MAX + 2  # the pool's, those that ask, and its two tasks'


def test_a_pool_of_which_nothing_is_free_is_503_in_time(conn, fresh_dsn, tmp_path):
    with inbox(tmp_path, fresh_dsn) as receiver, psycopg.connect(fresh_dsn) as blocker:
        blocker.execute("LOCK TABLE webhook_events")
        statuses, took = send_timed(receiver, range(60))
        assert statuses == {503}
        assert took < IN_TIME
        blocker.rollback()

        assert until_stored(receiver, 60) < IN_TIME


def test_a_server_that_takes_no_more_connections_keeps_those_it_has(server, db, tmp_path, trace):
    with ExitStack() as taken, inbox(tmp_path, server.dsn) as receiver:
        assert send(receiver, [1]) == [200]
        take_all(server.dsn, taken)

        assert send(receiver, [2]) == [200]
        said = tmp_path / "log"
        with said.open("wb") as log, processor(server.dsn, "--interval", "0.2", *HANDLERS, stderr=log):
            wait_for(lambda: "too many clients" in said.read_text())
            taken.close()
            event = add(db, "fault.note")
            wait_for(lambda: effects(db) == [event])


def take_all(dsn, taken) -> None:
    """Connect as often as the server lets us."""
    with suppress(psycopg.OperationalError):
        while True:
            taken.enter_context(psycopg.connect(dsn))


def test_what_was_answered_2xx_is_there_after_a_storm_of_resets(server, db, tmp_path, seed):
    with Cable(server.dsn, seed) as cable, inbox(tmp_path, cable.dsn) as receiver:
        assert send(receiver, [0]) == [200]
        cable.resets = 0.05  # of the pieces either way
        answered: set[int] = {0}
        for _ in range(3):
            batch = sorted(set(range(100)) - answered)
            for first in range(0, len(batch), 20):
                part = batch[first : first + 20]
                answered |= {number for number, status in zip(part, send(receiver, part), strict=True) if status == 200}
        cable.resets = 0.0

        assert until_stored(receiver, 0) < IN_TIME

    subjects = {subject for (subject,) in db.execute("SELECT subject FROM webhook_events")}
    assert {f"reminder/rem_{number}" for number in answered} <= subjects
    assert len(subjects) == stored(db)
    assert len(answered) > 50


def test_a_read_only_database_is_503_until_it_is_not(server, db, tmp_path):
    with inbox(tmp_path, server.dsn) as receiver:
        assert send(receiver, [1]) == [200]
        server.configure(default_transaction_read_only="on")
        wait_for(lambda: set(send(receiver, [2, 3])) == {503})
        assert reminder(1).to(receiver).status == 503  # a duplicate, too
        with psycopg.connect(make_conninfo(server.dsn, options="-c default_transaction_read_only=off")) as conn:
            conn.autocommit = True
            conn.execute("ALTER SYSTEM RESET default_transaction_read_only")
            conn.execute("SELECT pg_reload_conf()")

        assert until_stored(receiver, 2) < IN_TIME
