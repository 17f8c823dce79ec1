"""A receiver that is killed: what it has answered is stored, what it has not is sent again and stored once."""

import http.client
import random
import threading
from contextlib import suppress

import pytest

from benchmarks.server import answers
from tests.faults.outage import reach
from tests.faults.rig import rig
from tests.faults.traffic import Load
from tests.processes import agent_event, free_port, post, processor, receiver, wait_for

KILLS = 5
# An advisory lock that is held keeps an insert from being committed: it has been made, and nobody sees it.
HELD = """
    CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER hold AFTER INSERT ON webhook_events DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION hold();
    SELECT pg_advisory_lock(1);
"""
SESSIONS = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'inbox-receiver'"


def count(conn, table):
    return conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def test_five_kills_under_load_lose_and_double_nothing(conn, fresh_dsn, tmp_path, seed):
    chance = random.Random(seed)

    with rig(tmp_path, fresh_dsn) as it:
        with it.load(Load(rate=60, seconds=12, seed=seed)) as sender:
            for _ in range(KILLS):
                wait_for(lambda: answers(it.port))
                reach(sender, sender.now + chance.uniform(0.2, 0.8))
                it.receiver.kill_and_restart()
        verdict = it.settle(sender, 60)

    assert verdict.passed, verdict
    assert sender.failed  # each kill was met
    assert len(verdict.acked) > 100


@pytest.fixture
def killed(conn, fresh_dsn):
    """The port of a receiver that was killed while its insert waited to be committed, and the delivery."""
    port, delivery, statuses = free_port(), agent_event("the-one"), []
    conn.execute(HELD)

    def send():
        with suppress(OSError, http.client.HTTPException):
            statuses.append(post(port, *delivery))

    with receiver(fresh_dsn, port, SPOOL_DIR="off") as running:
        sender = threading.Thread(target=send)
        sender.start()
        wait_for(lambda: count(conn, f"(SELECT {SESSIONS} AND wait_event = 'advisory') AS waiting") == 1)
        running.process.kill()
        sender.join()
        yield running, port, delivery
    assert 200 not in statuses


def again(killed):
    """Start the receiver again, and return what the same delivery is answered."""
    running, port, delivery = killed
    running.kill_and_restart()
    wait_for(lambda: answers(port))
    return post(port, *delivery)


def test_killed_between_insert_and_commit_the_row_is_not_there_and_the_retry_stores_it(conn, fresh_dsn, killed):
    conn.execute(f"SELECT pg_terminate_backend(pid) {SESSIONS}")
    wait_for(lambda: count(conn, f"(SELECT {SESSIONS}) AS left_over") == 0)
    conn.execute("SELECT pg_advisory_unlock(1)")
    assert count(conn, "webhook_events") == 0

    assert again(killed) == 200

    assert (count(conn, "webhook_events"), count(conn, "webhook_duplicates")) == (1, 0)


def test_killed_between_commit_and_answer_the_row_is_kept_and_the_retry_is_a_duplicate(conn, fresh_dsn, killed):
    conn.execute("SELECT pg_advisory_unlock(1)")
    wait_for(lambda: count(conn, "webhook_events") == 1)

    assert again(killed) == 200

    assert (count(conn, "webhook_events"), count(conn, "webhook_duplicates")) == (1, 1)
    with processor(fresh_dsn, "--interval", "0.1", "--handlers", "tests.faults.effect_handlers"):
        wait_for(lambda: count(conn, "effects") > 0)
    assert count(conn, "effects") == 1
