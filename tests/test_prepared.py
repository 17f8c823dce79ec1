"""The receiver's statements are planned once a session, where no pooler stands between; and those plans last."""

import asyncio
from datetime import UTC, datetime

import pytest

from receiver.batch import insert_all
from receiver.insert import insert
from receiver.store import PREPARED_AFTER, meet
from sql import database
from sql.connection import AsyncConnection
from tests.test_batches import row

PREPARED = "SELECT statement FROM pg_prepared_statements"


def after(dsn, *calls):
    """Make these calls on a connection of the receiver's, and return what each came to."""

    async def make():
        conn = await AsyncConnection.connect(dsn, **database.CONNECT)
        async with conn:
            await meet(conn)
            return [await call(conn) for call in calls]

    return asyncio.run(make())


async def prepared(conn):
    return [statement for (statement,) in await (await conn.execute(PREPARED)).fetchall()]


async def scans(conn):
    """Return how often the tombstones were read from end to end."""
    await conn.execute("SELECT pg_stat_force_next_flush()")
    found = await conn.execute("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'webhook_tombstones'")
    return await found.fetchone()


def alone(event_id):
    return lambda conn: insert(conn, row(event_id))


def together(*event_ids):
    return lambda conn: insert_all(conn, [row(event_id) for event_id in event_ids])


def test_what_is_sent_often_is_planned_once(db, dsn):
    *_, found = after(dsn, *(alone(number) for number in range(PREPARED_AFTER + 1)), prepared)

    assert [statement for statement in found if "INSERT INTO webhook_events" in statement]


def test_whether_a_row_has_a_time_makes_no_other_statement_of_its_batch(db, dsn):
    time = datetime(2026, 11, 21, 12, 0, 0, 123456, UTC)

    def mixed(place):
        rows = [row(f"{place}a"), {**row(f"{place}b"), "occurred_at": time}]
        return lambda conn: insert_all(conn, rows[:: 1 if place % 2 else -1])

    *_, found = after(dsn, *(mixed(place) for place in range(PREPARED_AFTER + 1)), prepared)

    assert len([statement for statement in found if "INSERT INTO webhook_events" in statement]) == 1
    timed = "SELECT DISTINCT occurred_at FROM webhook_events WHERE event_id LIKE '%b'"
    assert db.execute(timed).fetchall() == [(time,)]


@pytest.mark.parametrize("many", [False, True])
def test_a_plan_made_before_there_were_tombstones_goes_by_their_key(db, dsn, many):
    def send(first):
        numbers = range(first, first + 2 * (PREPARED_AFTER + 5), 2)
        return [together(number, number + 1) if many else alone(number) for number in numbers]

    async def bury(conn):
        db.execute(
            "INSERT INTO webhook_tombstones (source, event_id, deleted_at)"
            " SELECT 'agent', 'gone-' || number, now() FROM generate_series(1, 20000) AS number"
        )

    db.execute("VACUUM ANALYZE webhook_tombstones")  # there are none: to read them all would cost nothing

    found = after(dsn, *send(0), scans, bury, *send(1000), scans)

    before, later = (one for one in found if isinstance(one, tuple))
    assert before == later
