"""Deliveries that come together are stored together, and each has what it would have had by itself."""

import asyncio
import threading
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from random import Random

import psycopg
import pytest
from psycopg.rows import dict_row

import sql as statements
from processor import operations
from receiver import lanes
from receiver.batch import BYTES_MAX, ROWS_MAX, insert_all, parts, repeat_all
from receiver.delivery import Delivery
from receiver.insert import Refused, Saved, Unavailable, insert
from receiver.providers import agent
from receiver.row import row_of
from receiver.settings import sources_from
from receiver.store import Store
from sql import database as address
from sql.connection import AsyncConnection
from tests.processes import SECRET, agent_event, wait_for

PATIENT = 30.0  # seconds: longer than anything takes
ENOUGH = 3.0  # seconds, for a deadline that is to pass
(SOURCE,) = sources_from({"WEBHOOK_SECRET": SECRET})


def delivered(event_id, **changes):
    """Return the arguments of Store.save for an event of the agent's."""
    body, headers = agent_event(str(event_id))
    delivery = Delivery("POST", "", "/webhooks/agent", headers, body)
    (event,) = agent.identify(delivery, SOURCE.options)
    return SOURCE, delivery, [replace(event, event_id=str(event_id), **changes)]


def row(event_id):
    source, delivery, (event,) = delivered(event_id)
    return row_of(source, delivery, event)


@asynccontextmanager
async def opened(dsn, deadline=PATIENT):
    store = Store(dsn, deadline)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def saved(dsn, *deliveries, deadline=PATIENT):
    """Save them at once; return what became of each: a list of Saved, or an error."""

    async def save():
        async with opened(dsn, deadline) as store:
            return await asyncio.gather(*(store.save(*one) for one in deliveries), return_exceptions=True)

    return asyncio.run(save())


@contextmanager
def held(dsn, *event_ids):
    """Have another transaction insert these, and not commit it before the end."""
    with psycopg.connect(dsn) as other:
        for event_id in event_ids:
            other.execute(
                "INSERT INTO webhook_events (source, provider, event_id, event_type, payload)"
                " VALUES (%s, 'agent', %s, 'call.ringing', '{}')",
                (SOURCE.name, str(event_id)),
            )
        yield other
        other.rollback()


async def waits_for_another(dsn):
    """Return when a session of the database waits for another transaction."""
    waiting = "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted"
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as conn:
        until = time.monotonic() + PATIENT
        while await (await conn.execute(waiting)).fetchone() != (True,):
            assert time.monotonic() < until
            await asyncio.sleep(0.01)


def stored(db):
    return [event_id for (event_id,) in db.execute("SELECT event_id FROM webhook_events ORDER BY id")]


def commits(db):
    """Return the events of each commit, in order."""
    found = db.execute(
        "SELECT array_agg(event_id ORDER BY id) FROM webhook_events GROUP BY xmin::text ORDER BY min(id)"
    )
    return [ids for (ids,) in found]


def test_what_comes_while_a_commit_is_under_way_shares_the_next(dsn, db, monkeypatch):
    monkeypatch.setattr(lanes, "LATE", PATIENT)

    async def save():
        async with opened(dsn) as store:
            with held(dsn, "first"):
                first = asyncio.create_task(store.save(*delivered("first")))
                await waits_for_another(dsn)
                others = [asyncio.create_task(store.save(*delivered(n))) for n in range(5)]
                await asyncio.sleep(0)
            await asyncio.gather(first, *others)

    asyncio.run(save())

    assert commits(db) == [["first"], ["0", "1", "2", "3", "4"]]


def test_who_comes_alone_waits_for_nobody(dsn, db):
    async def save():
        async with opened(dsn) as store:
            for n in range(3):
                await store.save(*delivered(n))

    asyncio.run(save())

    assert commits(db) == [["0"], ["1"], ["2"]]


def test_ids_ascend_in_the_order_of_arrival(dsn, db, monkeypatch):
    monkeypatch.setattr(lanes, "LATE", PATIENT)
    names = [str(n) for n in range(3 * ROWS_MAX)]
    Random(1).shuffle(names)

    saved(dsn, *(delivered(name) for name in names))

    assert stored(db) == names


def test_a_row_that_is_refused_is_refused_alone(dsn, db):
    *good, bad = saved(dsn, *(delivered(n) for n in range(9)), delivered("bad", event_type="x" * 256))

    assert isinstance(bad, Refused)
    assert stored(db) == [str(n) for n in range(9)]
    assert not any(one.duplicate for (one,) in good)
    assert db.execute("SELECT count(*) FROM webhook_duplicates").fetchone() == (0,)


def test_a_payload_that_jsonb_refuses_is_stored_without_it_beside_others(dsn, db):
    saved(dsn, delivered(0), delivered(1, payload='{"n": 1e999999}'), delivered(2))

    found = db.execute("SELECT payload IS NULL, parse_error IS NOT NULL, dead_at IS NOT NULL FROM webhook_events")
    assert found.fetchall() == [(False,) * 3, (True,) * 3, (False,) * 3]


def test_a_row_that_waits_for_another_transaction_holds_up_none_of_its_batch(dsn, db):
    with held(dsn, 3):
        results = saved(dsn, *(delivered(n) for n in range(8)), deadline=ENOUGH)

    assert [type(one) for one in results] == [list] * 3 + [Unavailable] + [list] * 4


def test_a_batch_that_is_late_holds_up_nobody_who_comes_after_it(dsn, db):
    async def save():
        async with opened(dsn) as store:
            with held(dsn, "stuck"):
                stuck = asyncio.create_task(store.save(*delivered("stuck")))
                await waits_for_another(dsn)
                await asyncio.gather(*(store.save(*delivered(n)) for n in range(20)))
                assert not stuck.done()
            await stuck

    asyncio.run(save())

    assert sorted(stored(db)) == sorted([*map(str, range(20)), "stuck"])


def test_the_deadline_holds_for_what_was_not_sent_yet_and_that_is_never_sent(dsn, db, monkeypatch, caplog):
    monkeypatch.setattr(lanes, "LATE", PATIENT)

    async def save():
        async with opened(dsn, deadline=0.5) as store:
            with held(dsn, "sent"):
                sent = asyncio.create_task(store.save(*delivered("sent")))
                await waits_for_another(dsn)
                began = time.monotonic()
                for one in [sent, store.save(*delivered("waiting"))]:
                    with pytest.raises(Unavailable, match=r"no commit within 0\.5 s"):
                        await one
                assert time.monotonic() - began < PATIENT / 2
                assert not store.lanes.queue, "its memory is free"
            await asyncio.to_thread(wait_for, lambda: "committed it late" in caplog.text)

    asyncio.run(save())

    assert stored(db) == ["sent"]


def test_a_batch_that_comes_late_counts_no_delivery_that_was_stored_from_the_spool_meanwhile(dsn, db, caplog):
    async def save():
        async with opened(dsn, deadline=0.5) as store:
            with psycopg.connect(dsn) as other:
                other.execute("LOCK TABLE webhook_events")
                late = await asyncio.gather(*(store.save(*delivered(n)) for n in range(2)), return_exceptions=True)
                for n in range(2):
                    other.execute(statements.load("insert_event"), row(n))
            await asyncio.to_thread(wait_for, lambda: caplog.text.count("committed it late") == 2)
            return late

    assert [type(one) for one in asyncio.run(save())] == [Unavailable] * 2

    assert stored(db) == ["0", "1"]
    assert db.execute("SELECT count(*) FROM webhook_duplicates").fetchone() == (0,)


def test_more_than_may_wait_are_not_tried(dsn, db, monkeypatch):
    monkeypatch.setattr("receiver.store.UNDER_WAY_MAX", 3)

    results = saved(dsn, *(delivered(n) for n in range(5)))

    assert [type(one) for one in results] == [list] * 3 + [Unavailable] * 2


def test_a_key_twice_in_a_batch_is_an_event_and_a_duplicate(dsn, db):
    saved(dsn, delivered("old"))

    (first,), (again,), (old,), (other,) = saved(
        dsn, delivered("1"), delivered("1"), delivered("old"), (*delivered("2")[:2], delivered("1")[2])
    )

    numbers = dict(db.execute("SELECT event_id, id FROM webhook_events").fetchall())
    assert (first, again) == (Saved(numbers["1"], duplicate=False), Saved(numbers["1"], duplicate=True))
    assert old == Saved(numbers["old"], duplicate=True)
    assert other == Saved(numbers["1"], duplicate=True, same_body=False)
    found = db.execute("SELECT event_id, same_body FROM webhook_duplicates ORDER BY id").fetchall()
    assert found == [("1", True), ("old", True), ("1", False)]
    assert db.execute("SELECT count(DISTINCT xmin::text) FROM webhook_duplicates").fetchone() == (1,)


def test_behind_duplicates_alone_others_are_looked_for_before_anything_is_inserted(dsn, db, monkeypatch):
    monkeypatch.setattr(lanes, "LATE", PATIENT)
    repeated = [delivered(number) for number in range(4)]
    number_given = "SELECT last_value FROM webhook_events_id_seq"

    async def save():
        async with opened(dsn) as store:

            def together(*deliveries):
                return asyncio.gather(*(store.save(*one) for one in deliveries))

            for _ in range(2):
                await together(*repeated)
            (before,) = db.execute(number_given).fetchone()
            await together(*repeated)
            (after,) = db.execute(number_given).fetchone()
            return after - before, await together(*repeated, delivered("new"))

    numbers_taken, (*known, new) = asyncio.run(save())

    assert numbers_taken == 0
    assert all(one.duplicate for (one,) in known)
    assert not new[0].duplicate
    assert db.execute("SELECT count(*), count(DISTINCT event_id) FROM webhook_duplicates").fetchone() == (12, 4)


def test_an_event_that_was_deleted_is_a_duplicate_in_a_batch_too(dsn, db):
    saved(dsn, delivered("gone", parse_error="not JSON", payload=None))
    (number,) = db.execute("SELECT id FROM webhook_events").fetchone()
    assert operations.purge(db, [number]) == 1

    (gone,), (new,) = saved(dsn, delivered("gone"), delivered("new"))

    assert gone == Saved(None, duplicate=True, same_body=None)
    assert not new.duplicate
    assert stored(db) == ["new"]


def test_a_prune_that_commits_while_a_batch_waits_for_it_wins(dsn, db):
    saved(dsn, delivered("gone"))
    outcome = []

    async def insert_again():
        async with await AsyncConnection.connect(dsn, **address.CONNECT) as conn:
            await insert_all(conn, [row("new"), row("gone")])

    def deliver():
        try:
            asyncio.run(insert_again())
        except psycopg.errors.SerializationFailure as error:
            outcome.append(error)

    with psycopg.connect(dsn) as pruner:
        pruner.execute("DELETE FROM webhook_events")
        pruner.execute("INSERT INTO webhook_tombstones (source, event_id) VALUES (%s, 'gone')", [SOURCE.name])
        delivering = threading.Thread(target=deliver)
        delivering.start()
        wait_for(lambda: db.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() != (0,))
    delivering.join()

    assert len(outcome) == 1
    assert stored(db) == []


def test_batches_with_the_same_keys_in_other_orders_are_all_stored(fresh_dsn):
    names = [str(n) for n in range(10)]

    async def save():
        async with opened(fresh_dsn) as one, opened(fresh_dsn) as other:
            return await asyncio.gather(
                *(one.save(*delivered(name)) for name in names),
                *(other.save(*delivered(name)) for name in reversed(names)),
            )

    with psycopg.connect(fresh_dsn, autocommit=True) as db:
        slow(db)
        results = asyncio.run(save())

        assert sum(not found.duplicate for (found,) in results) == len(names)
        assert sorted(stored(db)) == names


def slow(db):
    """Have each row take a while, so that batches of two connections meet."""
    db.execute(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.01); RETURN NEW; END';"
        "CREATE TRIGGER slow BEFORE INSERT ON webhook_events FOR EACH ROW EXECUTE FUNCTION slow()"
    )


@pytest.mark.parametrize("fails", ["RAISE 'once'", "PERFORM pg_terminate_backend(pg_backend_pid())"])
def test_what_a_delivery_has_committed_before_it_failed_is_no_duplicate_of_itself(fresh_dsn, fails):
    new, old = delivered("new"), delivered("old")
    both = (*old[:2], [*new[2], *old[2]])
    with psycopg.connect(fresh_dsn, autocommit=True) as db:
        saved(fresh_dsn, old)
        db.execute(
            "CREATE SEQUENCE fails; CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" IF nextval('fails') = 1 THEN {fails}; END IF; RETURN NEW; END $$;"
            "CREATE TRIGGER fail BEFORE INSERT ON webhook_duplicates FOR EACH ROW EXECUTE FUNCTION fail()".encode()
        )

        ((first, _),) = saved(fresh_dsn, both)

        assert not first.duplicate
        assert sorted(stored(db)) == ["new", "old"]
        assert db.execute("SELECT count(*) FROM webhook_duplicates WHERE event_id = 'new'").fetchone() == (0,)


def test_a_row_that_costs_its_connection_each_time_holds_up_nobody_behind_it(fresh_dsn):
    with psycopg.connect(fresh_dsn, autocommit=True) as db:
        db.execute(
            "CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END';"
            "CREATE TRIGGER cut BEFORE INSERT ON webhook_events FOR EACH ROW"
            " WHEN (NEW.event_id = 'cut off') EXECUTE FUNCTION cut()"
        )

        cut_off, *others = saved(fresh_dsn, delivered("cut off"), *map(delivered, range(20)), deadline=ENOUGH)

        assert isinstance(cut_off, Unavailable)
        assert [found.duplicate for (found,) in others] == [False] * 20


def test_in_a_database_that_is_not_migrated_yet_they_are_stored_one_by_one(fresh_dsn):
    with psycopg.connect(fresh_dsn, autocommit=True) as db:
        db.execute("DROP FUNCTION webhook_are_new")

        saved(fresh_dsn, *(delivered(n) for n in range(5)))

        assert commits(db) == [[str(n)] for n in range(5)]


def test_a_statement_takes_so_many_rows_and_bytes_and_one_row_whatever_its_size():
    small, large, huge = ({"body": bytes(size)} for size in (1, BYTES_MAX // 2, 2 * BYTES_MAX))

    def lengths(*rows):
        return [len(rows[part]) for part in parts(rows)]

    assert lengths() == []
    assert lengths(*[small] * (2 * ROWS_MAX + 1)) == [ROWS_MAX, ROWS_MAX, 1]
    assert lengths(*[large] * 5) == [2, 2, 1]
    assert lengths(small, huge, small) == [1, 1, 1]


def test_many_rows_at_once_become_what_each_would_have_become_alone(dsn, db):
    chance = Random(7)
    texts = ["", "x", "ä\n\t'\"\\{},%s$1", "\U0001f600" * 20, "NULL"]
    rows = [
        row(chance.randrange(40)) | {
            "app_id": chance.choice(texts),
            "provider_type": chance.choice(texts),
            "subject": chance.choice([None, *texts[1:]]),
            "url": chance.choice(texts),
            "body": chance.randbytes(chance.randrange(300)),
            "occurred_at": chance.choice([None, "2026-11-21T10:00:00+00:00"]),
            "verified_by": chance.choice([None, *texts]),
            **chance.choice([{"payload": None, "parse_error": text} for text in texts] + [{}] * 5),
        }
        for _ in range(60)
    ]  # fmt: skip

    async def one_by_one(conn):
        return [await insert(conn, one) for one in rows]

    async def at_once(conn):
        numbers = await insert_all(conn, rows)
        again = iter(await repeat_all(conn, [one for one, number in zip(rows, numbers, strict=True) if number is None]))
        return [Saved(*known(next(again))) if number is None else Saved(number, duplicate=False) for number in numbers]

    def known(found):
        assert found is not None
        return found[0], True, found[1]

    async def outcome(way):
        async with (
            await AsyncConnection.connect(dsn, **address.CONNECT) as conn,
            conn.transaction(force_rollback=True),
            conn.cursor(row_factory=dict_row) as cursor,
        ):
            results = await way(conn)
            events = await (await cursor.execute(
                "SELECT to_jsonb(event) - 'id' AS event, id, event_id FROM webhook_events AS event ORDER BY id"
            )).fetchall()  # fmt: skip
            again = await (await cursor.execute(
                "SELECT event_id, same_body, body_sha256, received_at = now() FROM webhook_duplicates ORDER BY id"
            )).fetchall()  # fmt: skip
            names = {event["id"]: event["event_id"] for event in events}
            told = [(names[one.id], one.duplicate, one.same_body) for one in results]
            (at,) = {event["event"][name] for event in events for name in ("received_at", "next_attempt_at")}
            return told, [without(event["event"], at) for event in events], again

    def without(event, at):
        """Leave out the time of the transaction."""
        return {name: "now" if value == at else value for name, value in event.items()}

    assert asyncio.run(outcome(at_once)) == asyncio.run(outcome(one_by_one))
