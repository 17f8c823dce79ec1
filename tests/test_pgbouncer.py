"""Through a PgBouncer that shares its connections by transaction, everything works: by polling."""

import asyncio
import os
import shutil
import subprocess
import threading
from functools import partial

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from processor.loop import Processor
from processor.postgres_binaries import as_child
from processor.session import Session
from processor.wakeup import Wakeup
from receiver.store import meet
from sql import database
from sql.connection import AsyncConnection
from tests.conftest import reachable_directory
from tests.inbox import add
from tests.processes import agent_event, free_port, post, processor, receiver, wait_for

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
SERVER_CONNECTIONS = 4  # fewer than the clients hold: receiver, 2 workers, this test
REMINDERS, EVENTS = 5, 60

pytestmark = pytest.mark.skipif(
    not PGBOUNCER, reason="no pgbouncer on the PATH or in /usr/sbin; apt-get install pgbouncer"
)


@pytest.fixture
def pooled(fresh_dsn):
    """Address of a PgBouncer before ``fresh_dsn``; it makes no difference between users."""
    server, port = conninfo_to_dict(fresh_dsn), free_port()
    to = {name: server[name] for name in ("host", "port", "dbname", "user", "password") if server.get(name)}
    quoted = " ".join("{}='{}'".format(name, str(value).replace("'", "''")) for name, value in to.items())
    with reachable_directory() as directory:
        config = directory / "pgbouncer.ini"
        config.write_text(
            f"[databases]\n{to['dbname']} = {quoted}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
            f"pool_mode = transaction\ndefault_pool_size = {SERVER_CONNECTIONS}\n"
        )
        config.chmod(0o644)
        bouncer = subprocess.Popen([str(PGBOUNCER), "--quiet", str(config)], **as_child())
        try:
            address = make_conninfo("", host="127.0.0.1", port=port, dbname=to["dbname"], user="anybody")
            wait_for(lambda: answers(address))
            yield address
        finally:
            bouncer.kill()
            bouncer.wait()


def answers(dsn):
    try:
        psycopg.connect(dsn, **database.CONNECT).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture
def effects(fresh_dsn):
    with psycopg.connect(fresh_dsn, autocommit=True) as conn:
        conn.execute("CREATE TABLE effects (event_id text, number bigint GENERATED ALWAYS AS IDENTITY)")
        yield conn


def test_deliveries_are_stored_handled_in_order_and_replayed(effects, fresh_dsn, pooled):
    port, sent = free_port(), [f"event-{number:03}" for number in range(EVENTS)]
    options = ("--workers", "2", "--interval", "0.1", "--handlers", "tests.crash_handlers")

    def handled(count):
        return lambda: effects.execute("SELECT count(*) FROM effects").fetchone() == (count,)

    with receiver(pooled, port), processor(pooled, *options):
        for number, name in enumerate(sent):
            assert post(port, *agent_event(name, reminder_id=f"rem_{number % REMINDERS}")) == 200
        assert post(port, *agent_event(sent[0], reminder_id="rem_0")) == 200
        wait_for(handled(EVENTS))
        with psycopg.connect(pooled, **database.CONNECT) as operator:
            operator.execute("UPDATE webhook_events SET processed_at = NULL")
        wait_for(handled(2 * EVENTS))
        sessions = effects.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        ).fetchone()

    assert sessions <= (SERVER_CONNECTIONS,), "they did not go through PgBouncer"
    assert effects.execute("SELECT count(*) FROM webhook_duplicates").fetchone() == (1,)
    done = [event for (event,) in effects.execute("SELECT event_id FROM effects ORDER BY number")]
    for reminder in range(REMINDERS):
        assert [event for event in done if event in sent[reminder::REMINDERS]] == sent[reminder::REMINDERS] * 2
    assert effects.execute("SELECT count(*) FROM webhook_runs").fetchone() == (0,)


def test_a_worker_that_dies_behind_it_leaves_its_events_to_others(effects, fresh_dsn, pooled):
    options = ("--interval", "0.1", "--batch-size", "5", "--handlers", "tests.crash_handlers")
    for _ in range(EVENTS):
        add(effects, "call.answered")
    with processor(pooled, *options) as worker:
        wait_for(lambda: effects.execute("SELECT count(*) FROM effects").fetchone() > (0,))
        worker.kill_and_restart()
        wait_for(lambda: effects.execute("SELECT count(*) FROM effects").fetchone() == (EVENTS,))

    assert effects.execute("SELECT count(DISTINCT event_id) FROM effects").fetchone() == (EVENTS,)


def test_a_worker_does_not_listen_on_a_connection_that_it_shares(pooled, caplog):
    session, wakeup = Session.open(partial(psycopg.connect, pooled, **database.CONNECT)), Wakeup()
    try:
        assert wakeup.wait(session, 0.1, threading.Event())
        assert session.control
        assert session.control.execute("SELECT pg_listening_channels()").fetchall() == []
    finally:
        session.close()

    assert "wake-up off: a pooler stands before the database" in caplog.text


def test_nothing_is_prepared_on_a_connection_that_is_shared(effects, pooled):
    add(effects)
    worker = Processor(partial(psycopg.connect, pooled, **database.CONNECT))
    session = worker._open()
    try:
        worker.batch(session, 1)
        assert session.handed.prepares is None
    finally:
        session.close()


def test_nor_does_the_receiver_prepare_on_one(pooled):
    async def threshold():
        conn = await AsyncConnection.connect(pooled, **database.CONNECT)
        async with conn:
            await meet(conn)
            planner = await conn.execute("SELECT current_setting('enable_seqscan')")
            return conn.prepare_threshold, await planner.fetchone()

    assert asyncio.run(threshold()) == (None, ("on",))
