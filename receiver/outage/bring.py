"""Spooled rows' way into the table: those that it refuses are told from a database that is away."""

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import psycopg

from receiver.batch import insert_all, parts
from receiver.insert import OF_THE_ROW, Saved, Unavailable, insert, repeat
from receiver.outage.record import Record
from sql import load
from sql.connection import AsyncConnection

SUSPECTS = 10  # rows that the database fails at before it is taken for away
AGE_MAX = timedelta(days=3650)
# A version that spooled a row may not have known all of today's parameters.
UNKNOWN = dict.fromkeys(name.decode() for name in re.findall(rb"%\((\w+)\)", load("insert_event")))

# What no row is to blame for, and what the next attempt may not meet.
OF_THE_DATABASE = (
    psycopg.OperationalError,  # connections, timeouts, resources: disks, locks, memory
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.UndefinedTable,
)

Row = dict[str, object]
Brought = tuple[list[tuple[Record, Saved]], dict[int, str]]


async def bring_each(conn: AsyncConnection, records: Sequence[Record], suspects: set[int]) -> Brought:
    """As bring; and where the database fails at a row, without saying whose fault it is, find out by the others.

    If others are stored it was the row's, which counts as refused. If none is, and the rows were not refused before
    (*suspects*), it was the database's: raises that.
    """
    try:
        return await bring(conn, records)
    except (psycopg.Error, Unavailable) as error:
        if isinstance(error, OF_THE_DATABASE) or conn.closed:
            raise
        cause = error
    saved: list[tuple[Record, Saved]] = []
    refused: dict[int, str] = {}
    for record in records:
        try:
            more = await bring(conn, [replace(record, tried=True)])  # bring may have stored it before it failed
        except (psycopg.Error, Unavailable) as error:
            if isinstance(error, OF_THE_DATABASE) or conn.closed:
                raise
            refused[record.id] = f"the database failed at it ({getattr(error, 'sqlstate', None) or error})"
            if not saved and len(refused) >= SUSPECTS:
                break
        else:
            saved += more[0]
            refused |= more[1]
    if not saved and not suspects.issuperset(refused):
        raise cause
    return saved, refused


async def bring(conn: AsyncConnection, records: Sequence[Record]) -> Brought:
    """Insert the records' rows: in one transaction, or where a row is refused halved until the rest is in.

    Returns what became of each, committed, and by id why a row was refused. Raises psycopg.Error of an outage.
    """
    rows = [row_now(record) for record in records]
    try:
        if len(records) == 1:  # as it would have been without a spool: its payload may be refused, and its body kept
            return [(records[0], await insert(conn, rows[0], tried=records[0].tried))], {}
        async with conn.transaction():
            return list(zip(records, await _insert_all(conn, records, rows), strict=True)), {}
    except (*OF_THE_ROW, psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected) as error:
        if len(records) == 1:
            return [], {records[0].id: f"PostgreSQL refused the row ({error.sqlstate})"}
    middle = len(records) // 2
    first, second = await bring(conn, records[:middle]), await bring(conn, records[middle:])
    return first[0] + second[0], first[1] | second[1]


def row_now(record: Record) -> Row:
    """Return the row as sql/insert_event.sql takes it at this moment."""
    age = timedelta(seconds=max(0.0, time.time() - record.arrived_at))
    return {**UNKNOWN, **record.row, "age": min(age, AGE_MAX)}


async def _insert_all(conn: AsyncConnection, records: Sequence[Record], rows: list[Row]) -> list[Saved]:
    found = [number for part in parts(rows) for number in await insert_all(conn, rows[part])]
    return [
        Saved(stored, duplicate=False) if stored is not None else await repeat(conn, row, tried=record.tried)
        for stored, record, row in zip(found, records, rows, strict=True)
    ]
