"""The way into the table: a commit for what arrives together, within a deadline.

A call to the database that takes longer than the deadline is not cancelled and not waited for: cancelled, a commit
that waits for the standby is made without it, and one that comes late only makes the provider's retry a duplicate.
Its connection is lost to it until then, or until it is clear that the database hangs (sql/connection.py): of late
calls there are never more than connections.

A batch is all or none, so a row that waits for another transaction would hold up those beside it, and two batches with
the same keys in another order would wait for each other. A statement of many rows waits for little of that: then its
rows go one by one, like those of any batch that is refused, and each waits or is refused by itself.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable

import psycopg
from psycopg.rows import scalar_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from receiver.batch import insert_all, parts, repeat_all
from receiver.delivery import Delivery, Identity
from receiver.insert import OF_THE_ROW, Refused, Saved, Unavailable, insert, repeat
from receiver.lanes import Lanes, Waiting
from receiver.row import row_of
from receiver.settings import Source
from receiver.wakeup import Wakeup
from sql import database, load
from sql.connection import AsyncConnection

log = logging.getLogger("receiver")

DEADLINE = 2.5  # seconds from the body's last byte to the answer
CONNECTIONS_MAX = 8
UNDER_WAY_MAX = 500  # deliveries that may wait for the database; more are not tried
LOCK_TIMEOUT = "250ms"  # that rows wait together for another transaction; less than it takes to detect a deadlock
PREPARED_AFTER = 5  # times that a statement was sent: to plan it anew takes the server as long as to do it
RECONNECT = 0.5  # seconds that the pool goes on by itself after a failed attempt to connect


class Store:
    """The receiver's connections. Opens without waiting: the database may come up later."""

    def __init__(self, dsn: str, deadline: float = DEADLINE) -> None:
        self.deadline = deadline
        self.pool = AsyncConnectionPool(
            dsn,
            connection_class=AsyncConnection,
            kwargs=database.CONNECT,
            configure=meet,
            min_size=1,
            max_size=CONNECTIONS_MAX,
            timeout=deadline * 0.8,
            # No max_waiting: it counts who has given up as well, and past it the pool makes no connection ever again.
            # It would wait longer and longer between two attempts; given up, the next delivery makes one at once.
            reconnect_timeout=RECONNECT,
            open=False,
        )
        self.wakeup = Wakeup(dsn)
        self.repeating = False  # what was sent last were duplicates alone: those that follow are looked for first
        self.lanes = Lanes(CONNECTIONS_MAX, UNDER_WAY_MAX, self.pool.connection, self._send)

    async def open(self) -> None:
        """Start connecting, in the background."""
        await self.pool.open(wait=False)
        self.wakeup.start()

    async def close(self) -> None:
        """Close every connection; a call still under way is given up, which takes no time."""
        await self.lanes.close()
        await self.wakeup.stop()
        await self.pool.close(timeout=1)

    async def save(
        self, source: Source, delivery: Delivery, events: list[Identity], until: float | None = None
    ) -> list[Saved]:
        """Return what became of each event, all committed.

        Raises Unavailable, at *until* at the latest, in monotonic seconds; None: after the deadline.
        """
        began = time.monotonic()
        until = began + self.deadline if until is None else until
        try:
            return await self.lanes.put([row_of(source, delivery, event) for event in events], until)
        except TimeoutError:
            raise Unavailable(f"no commit within {until - began:.3g} s") from None
        except asyncio.QueueFull:
            raise Unavailable("too many deliveries wait for the database") from None
        except PoolTimeout as error:
            raise Unavailable("no connection to the database") from error

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

    async def _send(self, conn: AsyncConnection, batch: list[Waiting]) -> list[Waiting]:
        """Commit a batch's rows and answer; return whom to try once more.

        What is refused together is done again one by one, and only then judged. So is what was under way when the
        connection was lost, perhaps one from before a restart: it is safe, the keys are the same.
        """
        error: Exception | None = None
        try:
            if len(batch) == 1 and len(batch[0].rows) == 1:
                batch[0].alone = True
            await (self._alone(conn, batch[0]) if batch[0].alone else self._together(conn, batch))
        except asyncio.CancelledError:
            for one in batch:
                _tell_if_late(one, "was given up")
            raise
        except Exception as caught:  # noqa: BLE001 - told to those who wait
            error = caught
        if read_only := isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
            await conn.close()  # the next one may find the server that took over
        again = []
        for one in batch:
            if one.done.done():
                _tell_if_late(one, "failed" if None in one.saved else "committed it")
            elif not read_only and (conn.closed or not one.alone):
                one.alone, one.tried = True, one.tried or conn.closed
                again.append(one)
            else:
                one.fail(_cause(error))
        return again

    async def _alone(self, conn: AsyncConnection, one: Waiting) -> None:
        """Insert each row in a transaction of its own: what fails half-way comes again as duplicates."""
        for place, row in enumerate(one.rows):
            if one.saved[place] is None:
                saved = one.saved[place] = await insert(conn, row, tried=one.tried, until=one.until)
                if not saved.duplicate:
                    self.wakeup.tell()
        one.settle()

    async def _together(self, conn: AsyncConnection, batch: list[Waiting]) -> None:
        """Insert the rows in as few statements as take them, each a commit, and each's duplicates in another."""
        places = [(one, place) for one in batch for place in range(len(one.rows))]
        rows = [one.rows[place] for one, place in places]
        for part in parts(rows):
            here = places[part]
            if self.repeating:
                now = time.monotonic()
                await self._repeat(conn, [(one, place) for one, place in here if now < one.until])
                here = [(one, place) for one, place in here if one.saved[place] is None]
            repeated = []
            found = await insert_all(conn, [one.rows[place] for one, place in here], LOCK_TIMEOUT) if here else []
            for (one, place), stored in zip(here, found, strict=True):
                if stored is None:
                    repeated.append((one, place))
                else:
                    one.saved[place] = Saved(stored, duplicate=False)
            self.repeating = len(repeated) == len(here)
            if not self.repeating:
                self.wakeup.tell()
            for one, _ in here:
                one.settle()
            await self._repeat(conn, repeated)

    async def _repeat(self, conn: AsyncConnection, repeated: list[tuple[Waiting, int]]) -> None:
        now, real = time.monotonic(), []
        for one, place in repeated:
            if now < one.until:
                real.append((one, place))
            else:
                one.saved[place] = await repeat(conn, one.rows[place], tried=True)
        if real:
            found = await repeat_all(conn, [one.rows[place] for one, place in real])
            for (one, place), event in zip(real, found, strict=True):
                if event is not None:
                    one.saved[place] = Saved(event[0], duplicate=True, same_body=event[1])
                one.settle()


async def meet(conn: AsyncConnection) -> None:
    """Have statements prepared on the server where no pooler stands between. Raises psycopg.Error."""
    answer = await conn.cursor(row_factory=scalar_row).execute(load("meet_backend"), {"backend": conn.info.backend_pid})
    if await answer.fetchone():
        conn.prepare_threshold = PREPARED_AFTER


def _tell_if_late(one: Waiting, outcome: str) -> None:
    if one.done.cancelled() or isinstance(one.done.exception(), TimeoutError):
        log.warning("delivery answered without the database, which %s late", outcome)


def _cause(error: Exception | None) -> Exception:
    """Return what is told of *error*, which a row met by itself."""
    match error:
        case psycopg.errors.ReadOnlySqlTransaction():
            return Unavailable("the database takes no writes: a standby, or read-only by default")
        case psycopg.OperationalError():
            return Unavailable(f"the database failed ({error.sqlstate or 'connection lost'})")
        case psycopg.Error() if isinstance(error, OF_THE_ROW):
            return Refused(f"the database refused the row ({error.sqlstate})")
        case psycopg.Error():
            return Unavailable(f"the database failed ({error.sqlstate}){database.todo(error)}")
    return error or Unavailable("the first delivery's row went away meanwhile")


async def _within(seconds: float, call: Awaitable[object]) -> None:
    """Wait for *call* at most so long, and leave it running after that. Raises what it raises, or TimeoutError."""
    task = asyncio.ensure_future(call)
    done, _ = await asyncio.wait({task}, timeout=seconds)
    if not done:
        task.add_done_callback(lambda late: late.cancelled() or late.exception())
        raise TimeoutError
    task.result()
