"""The spool's file: what it keeps, what it sets aside, and what it does when its disk is full or damaged."""

import asyncio
import os
import sqlite3
import stat
import threading
from contextlib import closing
from datetime import UTC, datetime

import pytest

from receiver.outage.salvage import frames
from receiver.outage.spool import MIN_BYTES, Failed, Spool
from receiver.outage.thread import SpoolThread
from tests.spools import fill, ids, row, taken


@pytest.fixture
def path(tmp_path):
    directory = tmp_path / "spool"
    directory.mkdir()
    return directory / "slot-0.db"


@pytest.fixture
def spool(path):
    opened = Spool(path)
    yield opened
    opened.close()


def change(path, statement, *names):
    with sqlite3.connect(path) as conn:
        conn.execute(statement, names)
    conn.close()


def test_a_row_comes_back_as_it_was_given(spool):
    given = {**row("1"), "body": b"\x00\xff\r\n", "occurred_at": datetime(2026, 11, 20, 10, 0, 0, 5, tzinfo=UTC)}
    spool.append([(1_700_000_000.25, given, False)])

    (record,) = spool.peek(10)

    assert (record.row, record.arrived_at, record.tried) == (given, 1_700_000_000.25, False)


def test_nobody_else_may_read_its_files(spool):
    fill(spool, "1")

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in spool.path.parent.iterdir()}

    assert modes == dict.fromkeys(["slot-0.db", "slot-0.db-shm", "slot-0.db-wal"], 0o600)


def test_what_is_appended_is_fsynced(spool):
    assert spool.conn.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert spool.conn.execute("PRAGMA synchronous").fetchone() == (2,)


def test_its_numbers_are_those_of_what_waits(spool):
    spool.append([(2.0, row("1"), False), (1.0, row("2"), False)])
    size = spool.bytes
    assert (spool.deliveries, spool.oldest_at) == (2, 2.0)

    spool.delete(spool.peek(1))
    assert (spool.deliveries, spool.oldest_at, size / 3 < spool.bytes < size) == (1, 1.0, True)

    spool.delete(spool.peek(1))
    assert (spool.deliveries, spool.oldest_at, spool.bytes) == (0, None, 0)


def test_a_record_that_changed_on_the_disk_is_rejected_and_not_in_the_way(spool):
    fill(spool, "1", "2", "3")
    change(spool.path, "UPDATE records SET body = x'00' WHERE id = 2")

    assert ids(spool) == ["1", "3"]

    assert (spool.deliveries, spool.rejected) == (2, 1)
    assert spool.conn.execute("SELECT id, reason FROM rejected").fetchall() == [(2, "its checksum does not match")]


def test_what_was_rejected_waits_again_when_an_operator_says_so(spool):
    fill(spool, "1", "2")
    spool.reject({1: "PostgreSQL refused the row"})
    assert ids(spool) == ["2"]

    spool.restore()

    assert ids(spool) == ["2", "1"]
    assert (spool.deliveries, spool.rejected) == (2, 0)


def test_a_torn_tail_is_dropped_and_told_and_the_rest_is_kept(spool, tmp_path, caplog):
    fill(spool, "1")
    fill(spool, "2")
    whole = 32 + frames(spool.path) * (24 + 4096)
    fill(spool, "3")
    copy = taken(spool.path, tmp_path / "after")
    os.truncate(copy.with_name("slot-0.db-wal"), whole + 1000)

    after = Spool(copy)

    assert ids(after) == ["1", "2"]
    assert "spool tail dropped file=slot-0.db pages=1" in caplog.text
    after.close()


def test_a_killed_process_tears_nothing(spool, tmp_path, caplog):
    fill(spool, "1", "2")

    after = Spool(taken(spool.path, tmp_path / "after"))

    assert ids(after) == ["1", "2"]
    assert "dropped" not in caplog.text
    after.close()


def test_of_a_malformed_file_what_is_readable_is_kept(path, caplog):
    spool = Spool(path)
    fill(spool, *map(str, range(300)))
    spool.close()
    pages = path.stat().st_size // 4096
    with path.open("r+b") as file:
        file.seek(pages // 2 * 4096)
        file.write(os.urandom(4096))

    after = Spool(path)

    kept = ids(after)
    assert 200 < len(kept) < 300
    assert {"0", "299"} < set(kept)
    assert all(record.tried for record in after.peek(1000)), "each may be in the table"
    assert f"spool salvaged records={len(kept)}" in caplog.text
    assert len(list(path.parent.glob("slot-0.db.salvaged-*"))) == 1
    after.close()


def test_a_malformed_file_that_was_set_aside_before_a_kill_is_salvaged_by_the_next(path):
    spool = Spool(path)
    fill(spool, "1", "2")
    spool.close()
    path.rename(path.with_name("slot-0.db.malformed-1"))

    after = Spool(path)

    assert ids(after) == ["1", "2"]
    after.close()


def test_a_file_that_is_none_of_sqlites_is_set_aside_and_a_new_one_begun(path, caplog):
    path.write_bytes(b"no database" * 1000)

    spool = Spool(path)
    fill(spool, "1")

    assert ids(spool) == ["1"]
    assert "spool malformed file=slot-0.db" in caplog.text
    spool.close()


def test_damage_that_is_met_on_the_way_fails_one_call_and_the_next_has_salvaged(path):
    spool = Spool(path)
    fill(spool, *map(str, range(300)))
    assert spool.conn
    spool.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    spool.conn.execute("PRAGMA cache_size = 0")
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // 4096 * 4096)
        file.write(os.urandom(4096))

    with pytest.raises(Failed):
        spool.peek(1000)

    assert len(ids(spool)) > 200
    fill(spool, "new")
    spool.close()


def test_a_newer_versions_file_is_left_alone(path, caplog):
    Spool(path).close()
    change(path, "PRAGMA user_version = 2")

    spool = Spool(path)

    with pytest.raises(Failed, match="version 2; upgrade webhook-inbox"):
        fill(spool, "1")
    assert [one.name for one in path.parent.glob("*malformed*")] == []


def test_a_full_spool_takes_nothing_more_until_something_is_deleted(path):
    spool = Spool(path, MIN_BYTES)
    large = {**row("large"), "body": b"x" * 300_000}
    for _ in range(3):
        spool.append([(1.0, large, False)])
    with pytest.raises(Failed, match="SPOOL_MAX_BYTES"):
        spool.append([(1.0, large, False)])

    spool.delete(spool.peek(1))
    spool.append([(1.0, {**large, "event_id": "after"}, False)])

    assert ids(spool) == ["large", "large", "after"]
    assert path.stat().st_size <= MIN_BYTES
    spool.close()


def test_what_the_disk_does_not_let_it_delete_is_not_brought_again(spool):
    fill(spool, "1", "2")
    blocker = sqlite3.connect(spool.path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(Failed):
        spool.delete(spool.peek(1))

    assert (ids(spool), spool.deliveries) == (["2"], 1)
    blocker.execute("ROLLBACK")
    blocker.close()
    spool.delete([])

    assert spool.conn.execute("SELECT count(*) FROM records").fetchone() == (1,)


def test_an_empty_one_leaves_no_body_on_the_disk(spool):
    fill(spool, "a-name-that-stands-in-the-body")
    files = list(spool.path.parent.iterdir())
    assert any(b"a-name-that-stands-in-the-body" in file.read_bytes() for file in files)

    spool.delete(spool.peek(1))

    assert not any(b"a-name-that-stands-in-the-body" in file.read_bytes() for file in files)


def test_a_long_outages_space_is_given_back(spool):
    for _ in range(20):
        spool.append([(1.0, {**row("1"), "body": b"x" * 1_000_000}, False)])
    spool.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert spool.path.stat().st_size > 20_000_000

    while records := spool.peek(100):
        spool.delete(records)

    assert spool.path.stat().st_size < 100_000


def test_what_arrives_while_the_disk_is_busy_shares_one_commit(path):
    commits = []

    class Counted(Spool):
        def append(self, rows):
            commits.append(len(rows))
            super().append(rows)

    async def at_once():
        thread, busy = SpoolThread(Counted(path)), threading.Event()
        waiting = asyncio.create_task(thread.call(busy.wait))
        await asyncio.sleep(0)
        appends = [asyncio.create_task(thread.append([(1.0, row(f"{n}"), False)], 60)) for n in range(50)]
        await asyncio.sleep(0)
        assert not thread.empty
        busy.set()
        await asyncio.gather(waiting, *appends)
        assert thread.spool.deliveries == 50
        await thread.close()

    asyncio.run(at_once())

    assert commits == [50]


def test_appends_faster_than_the_disk_do_not_keep_the_drain_from_it(path):
    commits: list[int] = []
    appends: list[asyncio.Future[None]] = []

    class Slow(Spool):
        """One more delivery comes during each commit."""

        def append(self, rows):
            commits.append(len(rows))
            came = threading.Event()
            loop.call_soon_threadsafe(send)
            loop.call_soon_threadsafe(loop.call_soon, came.set)
            came.wait(10)
            super().append(rows)

    def send():
        if len(appends) < 200:
            appends.append(asyncio.ensure_future(thread.append([(1.0, row("1"), False)], 60)))

    async def drain():
        busy = threading.Event()
        waiting = asyncio.create_task(thread.call(busy.wait))
        await asyncio.sleep(0)
        for _ in range(50):
            send()
        await asyncio.sleep(0)
        peek = asyncio.create_task(thread.call(thread.spool.peek, 1))
        await asyncio.sleep(0)
        busy.set()
        await peek
        before = len(commits)
        while len(appends) < 200 or not all(one.done() for one in appends):
            await asyncio.wait(appends)
        await waiting
        await thread.close()
        return before

    loop, thread = asyncio.new_event_loop(), SpoolThread(Slow(path))
    with closing(loop):
        assert loop.run_until_complete(drain()) <= 2


def test_a_disk_that_hangs_fails_an_append_after_its_deadline(path):
    async def hanging():
        thread, busy = SpoolThread(Spool(path)), threading.Event()
        waiting = asyncio.create_task(thread.call(busy.wait))
        await asyncio.sleep(0)
        with pytest.raises(Failed, match=r"did not answer within 0\.05 s"):
            await thread.append([(1.0, row("1"), False)], 0.05)
        busy.set()
        await waiting
        assert await thread.call(thread.spool.peek, 1) == [], "what was not acknowledged, and is stored another way"
        await thread.close()

    asyncio.run(hanging())
