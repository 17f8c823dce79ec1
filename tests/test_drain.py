"""What waits in a spool comes into the table: in order, once, as old as it is, and nothing is held up by a bad row."""

import asyncio
import os
import shutil
import sqlite3
import time
from contextlib import closing, contextmanager
from random import Random

import psycopg
import pytest

from receiver.metrics import Metrics
from receiver.outage.bring import bring
from receiver.outage.drain import Drain
from receiver.outage.slot import take
from receiver.outage.spool import Failed, Spool
from receiver.outage.thread import SpoolThread
from sql import database as address
from sql.connection import AsyncConnection
from tests.outages import spooling
from tests.processes import wait_for
from tests.spools import fill, ids, row


@pytest.fixture
def spool(tmp_path):
    opened = Spool(tmp_path / "slot-0.db")
    yield opened
    opened.close()


def drain(dsn, spool):
    """Drain a spool as a receiver does; return how many events were brought."""

    async def once():
        return await Drain(dsn, SpoolThread(spool), asyncio.Event(), Metrics()).once()

    return asyncio.run(once())


def bring_and_die(dsn, spool):
    """Do what the drain does with a batch, up to the commit."""

    async def commit():
        records = spool.peek(1000)
        spool.attempt(records[-1].id)
        async with await AsyncConnection.connect(dsn, **address.CONNECT) as conn:
            await bring(conn, records)

    asyncio.run(commit())


def stored(db):
    return [event_id for (event_id,) in db.execute("SELECT event_id FROM webhook_events ORDER BY id")]


def test_they_come_in_order_and_leave_nothing(dsn, db, spool):
    names = [str(n) for n in range(500)]
    fill(spool, *names)

    assert drain(dsn, spool) == 500

    assert stored(db) == names
    assert (spool.deliveries, spool.bytes) == (0, 0)


def test_a_row_is_what_it_would_have_been_and_as_old_as_its_delivery(dsn, db, spool):
    given = row("1", timestamp="2026-11-20T10:00:00Z")
    spool.append([(time.time() - 90, given, False)])

    drain(dsn, spool)

    columns = "app_id, source, provider, event_id, event_type, provider_type, subject, method, url, occurred_at"
    found = db.execute(f"SELECT {columns} FROM webhook_events".encode()).fetchone()
    assert found == tuple(given[name] for name in columns.split(", "))
    assert db.execute("SELECT body, payload = convert_from(body, 'UTF8')::jsonb FROM webhook_events").fetchone() == (
        given["body"], True,
    )  # fmt: skip
    (age,) = db.execute("SELECT extract(epoch FROM now() - received_at)::float FROM webhook_events").fetchone()
    assert 89 < age < 150


def test_a_clock_that_was_set_back_makes_no_event_of_the_future(dsn, db, spool):
    fill(spool, "1", arrived_at=time.time() + 86400)
    fill(spool, "2", arrived_at=-1e12)

    drain(dsn, spool)

    assert db.execute("SELECT count(*) FROM webhook_events WHERE received_at <= now()").fetchone() == (2,)


def test_another_delivery_of_what_is_stored_is_recorded_as_one(dsn, db, spool):
    fill(spool, "1", "2", "1")

    drain(dsn, spool)
    fill(spool, "2", arrived_at=time.time() - 60)
    drain(dsn, spool)

    found = db.execute("SELECT event_id, same_body, now() - received_at > '59 s' FROM webhook_duplicates ORDER BY id")
    assert found.fetchall() == [("1", True, True), ("2", True, True)]
    assert stored(db) == ["1", "2"]


def test_killed_between_commit_and_deletion_it_repeats_nothing_and_counts_no_delivery_twice(dsn, db, spool):
    fill(spool, "1", "2", "3")
    bring_and_die(dsn, spool)
    assert len(stored(db)) == 3

    assert drain(dsn, spool) == 3

    assert len(stored(db)) == 3
    assert db.execute("SELECT count(*) FROM webhook_duplicates").fetchone() == (0,)


def test_a_commit_whose_answer_was_lost_is_no_second_delivery(dsn, db, spool):
    fill(spool, "1")
    drain(dsn, spool)

    fill(spool, "1", tried=True)
    drain(dsn, spool)

    assert db.execute("SELECT count(*) FROM webhook_duplicates").fetchone() == (0,)


def test_a_delivery_found_stored_already_still_waits_for_what_a_commit_waits_for(dsn, db, spool):
    fill(spool, "1")
    bring_and_die(dsn, spool)
    (before,) = db.execute("SELECT pg_current_wal_insert_lsn()").fetchone()

    drain(dsn, spool)

    (written,) = db.execute("SELECT pg_current_wal_insert_lsn() > %s", [before]).fetchone()
    assert written, "a commit that writes nothing does not wait for a synchronous standby"


def test_a_row_that_the_database_refuses_is_set_aside_and_the_others_are_stored(dsn, db, spool):
    names = [str(n) for n in range(20)]
    fill(spool, *names[:7])
    spool.append([(1.0, {**row("bad"), "event_type": "x" * 256}, False)])
    fill(spool, *names[7:])

    assert drain(dsn, spool) == 20

    assert stored(db) == names
    assert (spool.deliveries, spool.rejected) == (0, 1)


@pytest.mark.parametrize(
    "does",
    [
        "RETURN NULL",
        "RAISE 'not this one'",
        "RAISE insufficient_privilege",
        "RAISE USING ERRCODE = 'MY001'",
        "ASSERT false",
        "PERFORM nowhere()",
    ],
)
def test_a_row_that_the_database_always_fails_at_holds_up_nobody(fresh_dsn, tmp_path, does):
    with psycopg.connect(fresh_dsn, autocommit=True) as db, closing(Spool(tmp_path / "slot-0.db")) as spool:
        trigger(db, f"IF NEW.event_id = 'bad' THEN {does}; END IF")
        fill(spool, "1", "bad", "2")

        assert drain(fresh_dsn, spool) == 2

        assert stored(db) == ["1", "2"]
        assert (spool.deliveries, spool.rejected) == (0, 1)


@pytest.mark.parametrize("does", ["RAISE insufficient_privilege", "RAISE 'maintenance'"])
def test_a_database_that_fails_at_every_row_is_an_outage_and_rejects_nothing(fresh_dsn, tmp_path, does):
    with psycopg.connect(fresh_dsn, autocommit=True) as db, closing(Spool(tmp_path / "slot-0.db")) as spool:
        trigger(db, does)
        fill(spool, *map(str, range(20)))

        with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.RaiseException)):
            drain(fresh_dsn, spool)

        assert (spool.deliveries, spool.rejected) == (20, 0)


def trigger(db, body):
    db.execute(
        f"CREATE FUNCTION test_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; RETURN NEW; END $$;"
        "CREATE TRIGGER test BEFORE INSERT ON webhook_events FOR EACH ROW EXECUTE FUNCTION test_trigger()"
    )


def test_a_payload_that_jsonb_refuses_is_stored_without_it_like_any_other(dsn, db, spool):
    spool.append([(1.0, {**row("1"), "payload": '{"n": 1e999999}'}, False), (1.0, row("2"), False)])

    drain(dsn, spool)

    found = db.execute("SELECT payload IS NULL, parse_error IS NOT NULL FROM webhook_events ORDER BY id").fetchall()
    assert found == [(True, True), (False, False)]


def test_a_database_without_tables_is_an_outage_and_rejects_nothing(empty_dsn, spool):
    fill(spool, "1")

    with pytest.raises(psycopg.errors.UndefinedTable):
        drain(empty_dsn, spool)

    assert (spool.deliveries, spool.rejected) == (1, 0)


def test_a_row_of_a_version_that_knew_fewer_columns_is_stored(dsn, db, spool):
    old = row("1")
    del old["parse_error"]
    spool.append([(1.0, old, False)])

    drain(dsn, spool)

    assert len(stored(db)) == 1


def test_a_spool_whose_disk_is_gone_keeps_nobody_from_a_database_that_is_back(dsn, db, tmp_path):
    (tmp_path / "disk").mkdir()
    spool = Spool(tmp_path / "disk" / "slot-0.db")
    fill(spool, "1")
    spool.close()
    shutil.rmtree(tmp_path / "disk")

    async def one_look():
        drain = Drain(dsn, SpoolThread(spool), asyncio.Event(), Metrics())
        drain.lost("no connection")
        drain.start()
        await asyncio.to_thread(wait_for, lambda: not drain.away)
        await drain.stop()

    asyncio.run(one_look())


def test_from_a_full_disk_everything_is_brought(dsn, db, tmp_path, monkeypatch):
    spool = Spool(tmp_path / "slot-0.db")
    names = [str(n) for n in range(500)]
    fill(spool, *names)
    monkeypatch.setattr(Spool, "_writing", full)

    async def look():
        drain = Drain(dsn, SpoolThread(spool), asyncio.Event(), Metrics())
        drain.start()
        drain.lost("no connection")
        await asyncio.to_thread(wait_for, lambda: len(stored(db)) == 500)
        await drain.stop()

    asyncio.run(look())
    assert stored(db) == names
    assert db.execute("SELECT count(*) FROM webhook_duplicates").fetchone() == (0,)


def test_an_orphan_that_can_not_be_written_to_is_no_source_of_repeats_and_not_in_the_others_way(
    dsn, db, tmp_path, monkeypatch
):
    monkeypatch.setattr("receiver.outage.drain.LOOK", 0.1)
    own, orphan, other = take(tmp_path), take(tmp_path), take(tmp_path)
    for slot, names in ((orphan, map(str, range(300))), (other, ["other"])):
        with closing(Spool(slot.path)) as spool:
            fill(spool, *names)
        slot.free()
    writing = Spool._writing
    monkeypatch.setattr(Spool, "_writing", lambda spool: (full if spool.path == orphan.path else writing)(spool))

    async def look():
        drain = Drain(dsn, SpoolThread(Spool(own.path)), asyncio.Event(), Metrics())
        drain.start()
        await asyncio.to_thread(wait_for, lambda: "other" in stored(db))
        await asyncio.to_thread(wait_for, lambda: drain.fault)
        await drain.stop()

    asyncio.run(look())
    own.free()
    assert stored(db) == ["other"]


@contextmanager
def full(_spool):
    raise Failed("the spool or its disk is full")
    yield


def test_a_file_that_can_not_be_opened_at_the_start_is_brought_when_it_can(dsn, db, tmp_path, monkeypatch):
    monkeypatch.setattr("receiver.outage.drain.LOOK", 0.1)
    slot = take(tmp_path)
    before = Spool(slot.path)
    fill(before, "1", "2")
    before.close()
    with closing(sqlite3.connect(slot.path, isolation_level=None)) as other:
        other.executescript("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE")
        spool = Spool(slot.path)
        assert not spool.is_open

    async def look():
        drain = Drain(dsn, SpoolThread(spool), asyncio.Event(), Metrics())
        drain.start()
        await asyncio.to_thread(wait_for, lambda: stored(db) == ["1", "2"])
        await drain.stop()

    asyncio.run(look())
    slot.free()


def test_kill_9_while_draining_loses_and_repeats_nothing(fresh_dsn, tmp_path):
    names, chance = [str(n) for n in range(1200)], Random(os.environ.get("SEED", "1"))
    slot = take(tmp_path)
    spool = Spool(slot.path)
    fill(spool, *names)
    spool.close()
    slot.free()

    with psycopg.connect(fresh_dsn, autocommit=True) as db:
        kills = 0
        while len(stored(db)) < len(names):
            before = len(stored(db))
            with spooling(fresh_dsn, tmp_path) as receiver:
                enough = min(before + chance.randrange(200, 600), len(names))
                wait_for(lambda enough=enough: len(stored(db)) >= enough)  # seen at its commit, before its deletion
                receiver.kill()
                kills += 1
        with spooling(fresh_dsn, tmp_path) as receiver:
            wait_for(lambda: receiver.ready()["spool"]["deliveries"] == 0)

        assert stored(db) == names
        assert db.execute("SELECT count(*) FROM webhook_duplicates").fetchone() == (0,)
        assert kills > 1
    assert ids(Spool(slot.path)) == []
