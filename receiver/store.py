"""The way into the table: one insert a delivery, committed, within a deadline.

A call to the database that takes longer than the deadline is not cancelled and not waited for: cancelled, a commit
that waits for the standby is made without it, and one that comes late only makes the provider's retry a duplicate.
Its connection is lost to it until then, or until it is clear that the database hangs (sql/connection.py): of late
calls there are never more than connections.
"""

import asyncio
import json
import logging
import math
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import timedelta

import psycopg
from psycopg.rows import scalar_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from receiver.delivery import Delivery, Identity, clean
from receiver.settings import Source
from receiver.wakeup import Wakeup
from sql import database, load
from sql.connection import AsyncConnection

log = logging.getLogger("receiver")

DEADLINE = 2.5  # seconds from the body's last byte to the answer
CONNECTIONS_MAX = 8
UNDER_WAY_MAX = 500  # deliveries that may wait for the database; more are not tried
RECONNECT = 0.5  # seconds that the pool goes on by itself after a failed attempt to connect
# These carry a secret, or a session: they are proof at the door, and not kept.
SECRET_HEADERS = {
    "authorization",
    "cookie",
    "proxy-authorization",
    "x-vapi-secret",
    "x-webhook-secret",
}


# What PostgreSQL refuses a row with for the row's own sake; it takes others.
OF_THE_ROW = (
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.errors.ProgramLimitExceeded,
    psycopg.errors.StatementTooComplex,
)


class Unavailable(Exception):
    """Nothing is known to be committed. The message says why, without anything of the delivery."""


class Refused(Unavailable):
    """The database is there, and does not take this row."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What became of one event: its row, and whether it was there already, from these bytes or from others.

    id, same_body: None of a duplicate whose event has been deleted.
    """

    id: int | None
    duplicate: bool
    same_body: bool | None = True


class Store:
    """The receiver's connections. Opens without waiting: the database may come up later."""

    def __init__(self, dsn: str, deadline: float = DEADLINE) -> None:
        self.deadline = deadline
        self.pool = AsyncConnectionPool(
            dsn,
            connection_class=AsyncConnection,
            kwargs=database.CONNECT,
            min_size=1,
            max_size=CONNECTIONS_MAX,
            timeout=deadline * 0.8,
            # No max_waiting: it counts who has given up as well, and past it the pool makes no connection ever again.
            # It would wait longer and longer between two attempts; given up, the next delivery makes one at once.
            reconnect_timeout=RECONNECT,
            open=False,
        )
        self.wakeup = Wakeup(dsn)
        self.under_way = 0
        self.late: set[asyncio.Task[list[Saved]]] = set()

    async def open(self) -> None:
        """Start connecting, in the background."""
        await self.pool.open(wait=False)
        self.wakeup.start()

    async def close(self) -> None:
        """Close every connection; a call still under way is given up, which takes no time."""
        for task in self.late:
            task.cancel()
        if self.late:
            await asyncio.wait(self.late, timeout=1)
        await self.wakeup.stop()
        await self.pool.close(timeout=1)

    async def save(
        self, source: Source, delivery: Delivery, events: list[Identity], until: float | None = None
    ) -> list[Saved]:
        """Return what became of each event, all committed.

        Raises Unavailable, at *until* at the latest, in monotonic seconds; None: after the deadline.
        """
        if self.under_way >= UNDER_WAY_MAX:
            raise Unavailable("too many deliveries wait for the database")
        began = time.monotonic()
        until = began + self.deadline if until is None else until
        task = asyncio.create_task(self._save(source, delivery, events, until))
        self.under_way += 1
        try:
            done, _ = await asyncio.wait({task}, timeout=until - began)
        finally:
            self.under_way -= 1
        if not done:
            self.late.add(task)
            task.add_done_callback(self._forget)
            raise Unavailable(f"no commit within {until - began:.3g} s")
        return task.result()

    async def ready(self) -> str | None:
        """Return why this receiver can't store now, or None when it can."""

        async def version() -> object:
            async with self.pool.connection(timeout=0.5) as conn:
                cursor = await conn.cursor(row_factory=scalar_row).execute(load("schema_version"))
                return await cursor.fetchone()

        try:
            await _within(0.5, version())
        except psycopg.errors.UndefinedTable:
            return "the database has no tables; run `processor db migrate`"
        except (psycopg.Error, PoolTimeout, TimeoutError):
            return "the database does not answer"
        return None

    async def _save(self, source: Source, delivery: Delivery, events: list[Identity], until: float) -> list[Saved]:
        """Insert each event in a transaction of its own: a batch that fails half-way comes again as duplicates."""
        tried = False
        while True:
            conn = None
            try:
                async with self.pool.connection() as conn:
                    rows = [row_of(source, delivery, event) for event in events]
                    return [await self._insert(conn, row, until, tried=tried) for row in rows]
            except psycopg.errors.ReadOnlySqlTransaction as error:
                raise Unavailable("the database takes no writes: a standby, or read-only by default") from error
            except PoolTimeout as error:
                raise Unavailable("no connection to the database") from error
            except psycopg.OperationalError as error:
                # A connection from before a restart. Trying again is safe: the key is the same.
                if conn is None or not conn.closed or time.monotonic() > until:
                    raise Unavailable(f"the database failed ({error.sqlstate or 'connection lost'})") from error
                tried = True  # it may have been lost after the commit
            except OF_THE_ROW as error:
                raise Refused(f"the database refused the row ({error.sqlstate})") from error
            except psycopg.Error as error:
                raise Unavailable(f"the database failed ({error.sqlstate})") from error

    async def _insert(self, conn: AsyncConnection, row: dict[str, object], until: float, *, tried: bool) -> Saved:
        saved = await insert(conn, row, tried=tried, until=until)
        if not saved.duplicate:
            self.wakeup.tell()
        return saved

    def _forget(self, task: asyncio.Task[list[Saved]]) -> None:
        self.late.discard(task)
        outcome = "was given up" if task.cancelled() else "failed" if task.exception() else "committed it"
        log.warning("delivery answered without the database, which %s late", outcome)


async def _within(seconds: float, call: Awaitable[object]) -> None:
    """Wait for *call* at most so long, and leave it running after that. Raises what it raises, or TimeoutError."""
    task = asyncio.ensure_future(call)
    done, _ = await asyncio.wait({task}, timeout=seconds)
    if not done:
        task.add_done_callback(lambda late: late.cancelled() or late.exception())
        raise TimeoutError
    task.result()


async def insert(
    conn: AsyncConnection, row: dict[str, object], *, tried: bool = False, until: float = math.inf
) -> Saved:
    """Return what became of one event's row, a commit of its own. Raises psycopg.Error, Unavailable.

    *tried*: it was inserted before, and nobody knows whether that was committed. *until*: monotonic seconds after
    which somebody else may have inserted it, from the spool.
    """
    try:
        cursor = await conn.cursor(row_factory=scalar_row).execute(load("insert_event"), row)
    except psycopg.errors.SerializationFailure:
        return await repeat(conn, row, tried=tried)  # retention took the event meanwhile; its tombstone is there
    except psycopg.errors.ReadOnlySqlTransaction:
        await conn.close()  # the next one may find the server that took over
        raise
    except (
        psycopg.DataError,
        psycopg.errors.ProgramLimitExceeded,
        psycopg.errors.StatementTooComplex,
    ) as error:
        if row["payload"] is None:
            raise
        # JSON that jsonb can't hold: a number beyond its range, nesting beyond its stack.
        refused = f"PostgreSQL refused the payload as jsonb ({error.sqlstate})"
        return await insert(conn, {**row, "payload": None, "parse_error": refused}, tried=tried, until=until)
    if (stored := await cursor.fetchone()) is not None:
        return Saved(stored, duplicate=False)
    return await repeat(conn, row, tried=tried or time.monotonic() >= until)


async def repeat(conn: AsyncConnection, row: dict[str, object], *, tried: bool) -> Saved:
    """Record one more delivery of an event that is stored, unless its row is this delivery's own. Raises as insert."""
    if tried:
        own = await conn.cursor(row_factory=scalar_row).execute(load("find_own_event"), row)
        if (stored := await own.fetchone()) is not None:
            return Saved(stored, duplicate=False)
    again = await conn.execute(load("insert_duplicate"), row)
    found = await again.fetchone()
    if found is None:
        raise Unavailable("the first delivery's row went away meanwhile")
    return Saved(found[0], duplicate=True, same_body=found[1])


def row_of(source: Source, delivery: Delivery, event: Identity) -> dict[str, object]:
    """Return the parameters of sql/insert_event.sql for a delivery that arrives now."""
    hidden = SECRET_HEADERS | {str(getattr(source.options, "header_name", "")).lower()}
    headers = {name: clean(value) for name, value in delivery.headers.items() if name not in hidden}
    return {
        "app_id": event.app_id or source.app_id,
        "source": source.name,
        "provider": source.provider,
        "event_id": event.event_id,
        "event_type": event.event_type,
        "provider_type": event.provider_type,
        "subject": event.subject,
        "method": delivery.method,
        "url": delivery.url,
        "headers": json.dumps(headers),
        "body": delivery.body,
        "payload": event.payload,
        "parse_error": event.parse_error,
        "occurred_at": event.occurred_at,
        "age": timedelta(),
        "verified_by": delivery.verified_by,
    }
