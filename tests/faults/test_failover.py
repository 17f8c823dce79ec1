"""A primary with a synchronous standby: what was answered 2xx is on the standby, whatever happens to either."""

import tempfile
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from tests.faults import failover
from tests.faults.attempts import HANDLERS, effects
from tests.faults.inboxes import IN_TIME, inbox, seconds, send, until_stored
from tests.faults.outage import on_a_sound_disk
from tests.faults.servers import pair
from tests.inbox import add
from tests.processes import processor, wait_for

SHORT = failover.Failover(seconds=7.0, rate=50.0, stall=1.5, away=2.0)
WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'inbox-receiver'"


@pytest.fixture
def servers():
    with pair() as both:
        yield both


@pytest.fixture
def primary(servers):
    with psycopg.connect(servers.primary.dsn, autocommit=True) as conn:
        yield conn


def stored(dsn: str) -> int:
    with psycopg.connect(dsn) as conn:
        return len(conn.execute("SELECT FROM webhook_events").fetchall())


def commit_without_the_standby(primary, events: int) -> None:
    """Cancel the wait for it, as an operator may: PostgreSQL commits here with no more than a warning."""
    wait_for(lambda: primary.execute(WAITING).fetchone())
    primary.execute(f"SELECT pg_cancel_backend(pid) FROM ({WAITING}) AS waiting")
    wait_for(lambda: len(primary.execute("SELECT FROM webhook_events").fetchall()) == events)


def test_a_retry_is_not_answered_2xx_before_the_standby_has_the_event(servers, primary, tmp_path):
    with inbox(tmp_path, servers.primary.dsn) as receiver:
        assert send(receiver, [1]) == [200]
        servers.stall()
        assert send(receiver, [2]) == [503]
        commit_without_the_standby(primary, 2)

        assert send(receiver, [2]) == [503]

        servers.unstall()
        assert send(receiver, [2]) == [200]
        servers.primary.kill()
        servers.promote()

    assert stored(servers.standby.dsn) == 2


def test_what_is_spooled_while_the_standby_stalls_stays_spooled_until_the_standby_has_it(servers, primary, tmp_path):
    with inbox(tmp_path, servers.dsn, str(tmp_path / "spool")) as receiver:
        assert send(receiver, [1]) == [200]
        servers.stall()
        assert send(receiver, [2]) == [200]
        commit_without_the_standby(primary, 2)
        wait_for(lambda: primary.execute(WAITING).fetchone())  # the drain, which finds its own row there

        servers.primary.kill()
        servers.unstall()
        servers.promote()
        wait_for(lambda: stored(servers.standby.dsn) == 2)


def test_an_insert_that_finds_its_key_and_writes_nothing_would_not_wait(servers, primary, tmp_path):
    with inbox(tmp_path, servers.primary.dsn) as receiver:
        servers.stall()
        assert send(receiver, [1]) == [503]
        commit_without_the_standby(primary, 1)
        again = "INSERT INTO webhook_events SELECT * FROM webhook_events ON CONFLICT DO NOTHING"

        assert seconds(lambda: primary.execute(again)) < 1, "what the duplicate's own row is for"
        assert stored(servers.standby.dsn) == 0
        servers.unstall()


def test_a_receiver_waits_for_a_standby_that_stalls_and_opens_no_more_connections(servers, primary, tmp_path):
    ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'inbox-receiver'"
    with inbox(tmp_path, servers.primary.dsn) as receiver:
        assert send(receiver, [0]) == [200]
        servers.stall()
        for _ in range(3):
            assert set(send(receiver, range(1, 17))) == {503}
        (sessions,) = primary.execute(ours).fetchone() or (0,)
        servers.unstall()

        assert until_stored(receiver, 17) < IN_TIME
        assert sessions <= 8 + 2 + 8  # its pool, its two tasks, and who asks what the pool's wait for


def test_receiver_and_processor_follow_a_failover(servers, primary, tmp_path, trace):
    primary.execute("CREATE TABLE effects (event bigint)")
    with inbox(tmp_path, servers.dsn) as receiver, processor(servers.dsn, "--interval", "30", *HANDLERS):
        first = add(primary, "fault.note")
        assert send(receiver, range(8)) == [200] * 8
        wait_for(lambda: effects(primary) == [first])  # woken by those
        servers.primary.kill()
        assert send(receiver, range(8, 16)) == [503] * 8
        servers.promote()

        took = until_stored(receiver, 16)
        assert send(receiver, range(8, 16)) == [200] * 8
        with psycopg.connect(servers.standby.dsn, autocommit=True) as conn:
            second = add(conn, "fault.note")
            assert send(receiver, [17]) == [200]
            wait_for(lambda: effects(conn) == [first, second])  # within the interval: it hears again

    assert took < IN_TIME
    assert stored(servers.standby.dsn) == 20


def test_a_host_that_hangs_takes_no_time_of_the_one_that_serves(servers, tmp_path):
    with inbox(tmp_path, servers.dsn) as receiver:
        servers.promote()
        servers.primary.freeze()

        assert until_stored(receiver, 1) < IN_TIME
        assert set(send(receiver, range(2, 18))) == {200}


def test_a_standby_alone_is_no_place_to_store(servers, tmp_path, caplog):
    with inbox(tmp_path, servers.standby.dsn) as receiver:
        assert send(receiver, [1, 2]) == [503, 503]
        assert "the database takes no writes" in caplog.text
        servers.primary.kill()
        servers.promote()

        assert until_stored(receiver, 1) < IN_TIME


def test_a_processor_on_a_standby_says_so_and_waits(servers, primary, tmp_path, trace):
    primary.execute("CREATE TABLE effects (event bigint)")
    event = add(primary, "fault.note")
    said = tmp_path / "log"
    with said.open("wb") as log, processor(servers.standby.dsn, "--interval", "0.2", *HANDLERS, stderr=log):
        wait_for(lambda: "the server is a standby" in said.read_text())
        servers.primary.kill()
        servers.promote()
        with psycopg.connect(servers.standby.dsn, autocommit=True) as conn:
            wait_for(lambda: effects(conn) == [event])


def test_under_real_traffic_a_failover_loses_and_doubles_nothing_and_every_answer_is_2xx(tmp_path, seed):
    """In short; `python -m tests.faults.failover` is the same for longer."""
    found = on_a_sound_disk(lambda: failover.run(replace(SHORT, seed=seed), Path(tempfile.mkdtemp(dir=tmp_path))))

    assert found.passed, str(found)


def test_without_a_spool_nothing_that_was_answered_2xx_is_lost(tmp_path, seed):
    found = failover.run(replace(SHORT, seed=seed, spool=False), tmp_path)

    assert found.verdict.passed, str(found)
    assert found.sender.failed
