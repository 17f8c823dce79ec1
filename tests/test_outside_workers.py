"""Workers of outside handlers, as processes: killed by an event, hung up, told to stop."""

import psycopg
import pytest

from tests.inbox import add, look
from tests.processes import processor, wait_for


@pytest.fixture
def conn(fresh_dsn):
    with psycopg.connect(fresh_dsn, autocommit=True) as opened:
        opened.execute("CREATE TABLE effects (event bigint, note text)")
        yield opened


@pytest.fixture
def notes(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTSIDE_NOTES", str(tmp_path / "notes"))

    def read(what):
        try:
            lines = (tmp_path / "notes").read_text().split("\n")[:-1]
        except FileNotFoundError:
            return []
        return [int(line.split()[0]) for line in lines if line.split()[1] == what]

    return read


OPTIONS = ("--interval", "0.1", "--handlers", "tests.outside_handlers")


def test_an_event_that_kills_its_worker_from_outside_a_transaction_dies_alone(conn, fresh_dsn, notes):
    innocent = [add(conn, "call.completed", payload={"seconds": 0.2}) for _ in range(5)]
    poison = add(conn, "poison.kill")
    innocent += [add(conn, "call.completed", payload={"seconds": 0.2}) for _ in range(5)]

    with processor(fresh_dsn, *OPTIONS):
        wait_for(lambda: look(conn, poison, "dead_at IS NOT NULL") == (True,))
        wait_for(lambda: len(conn.execute("SELECT event FROM effects").fetchall()) >= len(innocent))

    assert look(conn, poison, "crashes, last_error LIKE '%%(signal SIGKILL)'") == (3, True)
    assert conn.execute("SELECT event FROM effects ORDER BY event").fetchall() == [(event,) for event in innocent]
    harmed = (
        "SELECT count(*) FROM webhook_events WHERE id <> %s AND (outcome IS DISTINCT FROM 'handled' OR crashes > 0)"
    )
    assert conn.execute(harmed, [poison]).fetchone() == (0,)
    assert max(notes("began").count(event) for event in innocent) <= 3, "at most one more run a crash"


def test_one_that_hangs_holds_up_nobody_and_its_attempt_is_counted(conn, fresh_dsn, notes):
    hanging = add(conn, "poison.hang")
    others = [add(conn, "call.completed") for _ in range(20)]

    with processor(fresh_dsn, *OPTIONS, "--concurrency", "4"):
        wait_for(lambda: len(conn.execute("SELECT event FROM effects").fetchall()) == len(others))
        late = (1, "Timeout: its handlers took more than 0.5 s")
        wait_for(lambda: look(conn, hanging, "attempts, last_error") == late)
        conn.execute("UPDATE webhook_events SET next_attempt_at = now() WHERE id = %s", [hanging])
        wait_for(lambda: look(conn, hanging, "dead_at IS NOT NULL") == (True,))

    assert look(conn, hanging, "attempts, crashes") == (2, 0)


def test_sigterm_lets_what_runs_finish_and_gives_back_what_was_not_begun(conn, fresh_dsn, notes):
    for _ in range(6):
        add(conn, "call.completed", payload={"seconds": 1})

    with processor(fresh_dsn, *OPTIONS, "--concurrency", "2") as running:
        wait_for(lambda: len(notes("began")) >= 2)
        assert running.stop() == 0

    began = notes("began")
    assert sorted(notes("ended")) == sorted(began)
    left = "SELECT count(*) FROM webhook_events WHERE processed_at IS NULL AND attempts = 0 AND lease IS NULL"
    assert conn.execute(left).fetchone() == (6 - len(began),)
    assert len(conn.execute("SELECT event FROM effects").fetchall()) == len(began)


def test_one_whose_writes_hang_is_ended_and_dies_and_harms_nobody(conn, fresh_dsn, notes):
    hanging = add(conn, "poison.write")
    others = [add(conn, "call.completed") for _ in range(5)]

    with processor(fresh_dsn, *OPTIONS):
        wait_for(lambda: look(conn, hanging, "last_error IS NOT NULL") == (True,))
        conn.execute("UPDATE webhook_events SET next_attempt_at = now() WHERE id = %s", [hanging])
        wait_for(lambda: look(conn, hanging, "dead_at IS NOT NULL") == (True,))
        wait_for(lambda: len(conn.execute("SELECT event FROM effects").fetchall()) == len(others))

    late = "Timeout: its handler took more than 0.5 s"
    assert look(conn, hanging, "attempts, crashes, last_error") == (2, 0, late)


def test_sigterm_gives_nothing_back_that_another_worker_has_by_now(conn, fresh_dsn, notes):
    *_, last = [add(conn, "call.completed", payload={"seconds": 1}) for _ in range(3)]

    with processor(fresh_dsn, *OPTIONS, "--concurrency", "1") as running:
        wait_for(lambda: notes("began"))
        wait_for(lambda: look(conn, last, "lease IS NOT NULL") == (True,))
        conn.execute("UPDATE webhook_events SET lease = 0, next_attempt_at = '2100-01-01' WHERE id = %s", [last])
        assert running.stop() == 0

    assert look(conn, last, "lease, next_attempt_at = '2100-01-01', attempts") == (0, True, 1)


def told_to_stop(process):
    """Send a SIGTERM, and tell whether it had ended before."""
    ended = process.poll() is not None
    process.terminate()
    return ended


def test_the_second_sigterm_frees_what_was_leased_and_blames_nobody(conn, fresh_dsn, notes):
    event = add(conn, "call.completed", payload={"seconds": 600})

    with processor(fresh_dsn, *OPTIONS) as running:
        wait_for(lambda: notes("began"))
        wait_for(lambda: told_to_stop(running.process))

    assert look(conn, event, "lease, next_attempt_at <= clock_timestamp(), suspect, crashes") == (None, True, False, 0)
