"""An event that ends its worker, or never ends, is found and dies; nobody else is harmed or waits long for it."""

import time

import psycopg
import pytest

from tests.inbox import add, look
from tests.processes import processor, wait_for

OPTIONS = ("--interval", "0.05", "--handlers", "tests.poison_handlers")
INNOCENT = 10


@pytest.fixture
def conn(fresh_dsn):
    with psycopg.connect(fresh_dsn, autocommit=True) as opened:
        opened.execute("CREATE TABLE effects (event bigint)")
        yield opened


def effects(conn):
    return conn.execute("SELECT event FROM effects ORDER BY event").fetchall()


def dead(conn, event):
    return look(conn, event, "dead_at IS NOT NULL") == (True,)


@pytest.mark.parametrize(
    ("kind", "how"),
    [("poison.exit", "exit code 9"), ("poison.kill", "signal SIGKILL"), ("poison.segfault", "signal SIGSEGV")],
)
def test_an_event_that_kills_its_worker_is_blamed_alone_and_dies_at_the_third_time(conn, fresh_dsn, kind, how):
    before = [add(conn) for _ in range(INNOCENT // 2)]
    poison = add(conn, kind)
    innocent = before + [add(conn) for _ in range(INNOCENT // 2)]

    with processor(fresh_dsn, *OPTIONS) as running:
        wait_for(lambda: dead(conn, poison))
        wait_for(lambda: look(conn, poison, "last_error")[0].endswith(f" died while it handled this event ({how})"))
        wait_for(lambda: len(effects(conn)) >= INNOCENT)
        assert running.process.poll() is None, "the supervisor replaced each worker"

    assert look(conn, poison, "crashes, attempts") == (3, 3)
    kept = "SELECT attempt, result, error_class, error LIKE %s FROM webhook_attempts WHERE event_id = %s ORDER BY id"
    rows = conn.execute(kept, [f"%({how})", poison]).fetchall()
    assert rows == [(1, "retry", "Crash", True), (2, "retry", "Crash", True), (3, "dead", "Crash", True)]
    assert effects(conn) == [(event,) for event in innocent]
    harmed = "SELECT count(*) FROM webhook_events WHERE id <> %s AND (outcome <> 'handled' OR crashes > 0 OR suspect)"
    assert conn.execute(harmed, [poison]).fetchone() == (0,)


@pytest.mark.parametrize("kind", ["poison.loop", "poison.sleep"])
def test_a_handler_that_never_ends_is_ended_and_its_attempt_counted(conn, fresh_dsn, kind):
    innocent = [add(conn)]
    poison = add(conn, kind)
    innocent.append(add(conn))

    with processor(fresh_dsn, *OPTIONS):
        began = time.monotonic()
        wait_for(lambda: len(effects(conn)) == len(innocent))
        assert time.monotonic() - began < 5, "others wait for its timeout at most, and for a new worker"
        wait_for(lambda: look(conn, poison, "attempts") == (1,))
        assert look(conn, poison, "crashes, last_error") == (0, "Timeout: its handler took more than 0.5 s")

        conn.execute("UPDATE webhook_events SET next_attempt_at = now() WHERE id = %s", [poison])
        wait_for(lambda: dead(conn, poison))

    assert look(conn, poison, "attempts, crashes") == (2, 0)
    assert effects(conn) == [(event,) for event in innocent]


def test_being_ended_is_no_crash_also_for_an_event_that_ran_alone(conn, fresh_dsn):
    poison = add(conn, "poison.loop")

    with processor(fresh_dsn, *OPTIONS):
        wait_for(lambda: look(conn, poison, "attempts > 0") == (True,))
        conn.execute("UPDATE webhook_events SET next_attempt_at = now() WHERE id = %s", [poison])
        wait_for(lambda: dead(conn, poison))

    assert look(conn, poison, "attempts, crashes, suspect") == (2, 0, False)


def test_an_event_that_was_ended_yields_as_its_handler_has_it(conn, fresh_dsn):
    poison = add(conn, "poison.sleep")  # skip_after=60

    with processor(fresh_dsn, *OPTIONS):
        wait_for(lambda: look(conn, poison, "attempts") == (1,))

    assert look(conn, poison, "yields_at IS NOT NULL") == (True,)


def sessions(conn):
    ours = "application_name = 'inbox-processor' AND datname = current_database()"
    (count,) = conn.execute(f"SELECT count(*) FROM pg_stat_activity WHERE {ours}".encode()).fetchone()
    return count


def test_four_workers_share_the_work_and_stop_together(conn, fresh_dsn):
    events = [add(conn) for _ in range(200)]

    with processor(fresh_dsn, *OPTIONS, "--workers", "4") as running:
        wait_for(lambda: len(effects(conn)) == len(events))
        wait_for(lambda: sessions(conn) == 8)  # two connections a worker
        assert running.stop() == 0

    assert effects(conn) == [(event,) for event in events]
    wait_for(lambda: sessions(conn) == 0)
