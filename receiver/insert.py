"""One row's way into the table, a commit of its own; receiver/batch.py has that of many."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import psycopg
from psycopg.rows import scalar_row

from sql import load
from sql.connection import AsyncConnection

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


async def insert(
    conn: AsyncConnection, row: Mapping[str, object], *, tried: bool = False, until: float = math.inf
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


async def repeat(conn: AsyncConnection, row: Mapping[str, object], *, tried: bool) -> Saved:
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
