"""What a claim of 50 events reads, and what an insert takes, behind a long history; and claims where others wait.

    python -m benchmarks.claim_cost [--pending 1000000] [--processed 5000000] [--minutes 20] [--write]

A claim's row: the 8 KiB pages that it touches (EXPLAIN ANALYZE's shared buffers, the median of nine claims, each
followed by its batch's completion), that as a multiple of the first case, and its milliseconds. An insert's: rows a
second by pgbench, 8 connections, a commit each, keys at random, in turns into that table and into an empty one beside
it. The default stores 6,000,000 events in some ten minutes and 10 GB; who has waited --minutes goes on with the history
that there is by then. Needs DATABASE_URL of an empty database whose user may create another, or the demo extra, whose
PostgreSQL it then starts on a directory it removes.
"""

import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import LiteralString

import click
import psycopg
from psycopg import Connection

from benchmarks import pgbench
from benchmarks.conditions import conditions
from benchmarks.report import Report, Table
from benchmarks.rounds import Measures, interleaved
from benchmarks.server import empty_database, server
from processor import migrations, on
from processor.cursor import Cursor
from processor.loop import Processor
from processor.session import Session
from sql import database, load

BATCH, CLAIMS = 50, 9
PORTION = 500_000  # events of the past that are stored by one statement
FOLLOWERS = 100_000  # of the blocked subject
COMPLETED = 60_000  # under the held snapshot
CONNECTIONS = 8  # of pgbench
FIRST = "1,000 pending, no history"
NONE = "no history"
TYPE = "benchmark.event"
# Five events a subject, others between them as between a call's; a millisecond between two deliveries.
EVENTS: LiteralString = """
    INSERT INTO webhook_events (source, provider, event_id, event_type, subject, payload, body,
                                received_at, next_attempt_at, processed_at, outcome)
    SELECT 'benchmark', 'twilio', md5(%(name)s || n), %(type)s,
           %(name)s || '/' || (n / 50 * 10 + n %% 10), jsonb_build_object('n', n, 'pad', repeat('x', 600)),
           convert_to(repeat('x', 600), 'UTF8'), at, at,
           CASE WHEN %(done)s THEN at END, CASE WHEN %(done)s THEN 'handled' END
      FROM generate_series(0, %(count)s - 1) AS n,
           LATERAL (SELECT now() - %(age)s::interval - interval '1 ms' * (%(count)s - n)) AS delivery (at)
"""


@on(TYPE)
def do_nothing(event: object, conn: object) -> None:
    """Handle an event of the benchmark."""


def add(  # noqa: PLR0913 - one argument a column
    conn: Connection, name: str, count: int, *, done: bool = False, age: str = "1 minute", event_type: str = TYPE
) -> None:
    """Store so many events, the last of them so old."""
    conn.execute(EVENTS, {"name": name, "count": count, "done": done, "age": age, "type": event_type})


def settle(conn: Connection) -> None:
    """Have the statistics and the visibility map of a table that autovacuum has kept up with."""
    conn.execute("VACUUM ANALYZE webhook_events")


def look(conn: Connection, cursor: Cursor) -> tuple[int, float]:
    """Return the pages and milliseconds of a claim, which is rolled back."""
    names = {
        "batch": BATCH, "sources": None, "types": None, "shut_types": None, "shut_providers": None,
        "shut_sources": None, "prefix": 20, "after_at": cursor.after_at, "after_id": cursor.after_id,
    }  # fmt: skip
    with conn.transaction(force_rollback=True):
        explained = conn.execute(b"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + load("claim"), names).fetchone()
    ((plan,),) = explained or ()
    return plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"], plan["Execution Time"]


def claim_cost(conn: Connection, cursor: Cursor) -> tuple[int, float]:
    """Return the pages and milliseconds of the median claim; the events of each are completed before the next."""
    worker, costs = Processor(lambda: conn, BATCH, cursor=cursor), []
    for _ in range(CLAIMS):
        cursor.begin()
        costs.append(look(conn, cursor))
        batch = worker.batch(Session(conn, None), BATCH)
        if len(batch.outcomes) != BATCH:
            raise RuntimeError(f"expected a full batch, got {len(batch.outcomes)} events")
    pages, milliseconds = zip(*costs, strict=True)
    return int(statistics.median(pages)), statistics.median(milliseconds)


def drain(conn: Connection, events: int) -> Processor:
    """Complete so many events, and return the worker that did."""
    worker, done = Processor(lambda: conn, BATCH), 0
    while done < events:
        done += len(worker.batch(Session(conn, None), BATCH).outcomes)
    return worker


def remember(conn: Connection, processed: int, seconds: float) -> int:
    """Store so many events of the past, or as many as can be in these seconds; return how many there are."""
    until, stored = time.monotonic() + seconds, 0
    while stored < processed and time.monotonic() < until:
        portion = min(PORTION, processed - stored)
        add(conn, f"history{stored}", portion, done=True, age="2 days")
        stored += portion
        click.echo(f"{stored:,} of {processed:,} processed events stored", err=True)
    return stored


def cases(conn: Connection, dsn: str, pending: int, processed: int, seconds: float) -> Iterator[tuple[str, int, float]]:
    """Yield what each case is called and costs; the last leaves its events behind."""
    add(conn, "few", 1000)
    settle(conn)
    yield FIRST, *claim_cost(conn, Cursor())

    add(conn, "blocked", 1)
    conn.execute(
        "UPDATE webhook_events SET next_attempt_at = now() + interval '1 hour', last_error = 'down', attempts = 1"
        " WHERE subject = 'blocked/0'"
    )
    conn.execute(
        "INSERT INTO webhook_events (source, provider, event_id, event_type, subject, payload, next_attempt_at)"
        " SELECT 'benchmark', 'twilio', 'follower' || n, %s, 'blocked/0', '{}', now() - interval '1 hour'"
        " FROM generate_series(1, %s) AS n", [TYPE, FOLLOWERS]
    )  # fmt: skip
    add(conn, "free", 1000)
    settle(conn)
    claims, worst, worker = 0, 0.0, Processor(lambda: conn, BATCH)
    while True:
        began = time.perf_counter()
        batch = worker.batch(Session(conn, None), BATCH)
        claims, worst = claims + 1, max(worst, time.perf_counter() - began)
        if batch.outcomes:
            break
    click.echo(f"{claims - 1} claims park the {FOLLOWERS:,} followers, at most {worst * 1000:.0f} ms each")
    yield f"behind a blocked subject with {FOLLOWERS:,} followers", *claim_cost(conn, worker.cursor)

    conn.execute("TRUNCATE webhook_events CASCADE")
    add(conn, "backlog", COMPLETED + 4000 + BATCH * CLAIMS)
    settle(conn)
    with psycopg.connect(dsn) as report:
        report.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        report.execute("SELECT count(*) FROM webhook_events")
        worker = drain(conn, COMPLETED)
        yield f"after {COMPLETED:,} completions under a held snapshot", *claim_cost(conn, worker.cursor)
        yield "  the same, a full look from the oldest event on", *look(conn, Cursor())

    conn.execute("TRUNCATE webhook_events CASCADE")
    stored = remember(conn, processed, seconds)
    add(conn, "backlog", pending)
    settle(conn)
    yield f"{pending:,} pending, {stored:,} processed", *claim_cost(conn, Cursor())


def inserts(dsn: str, rounds: int, seconds: float, history: str) -> Table:
    """Return how fast rows come into the database as it is, and into an empty one."""
    with empty_database(dsn) as empty, tempfile.TemporaryDirectory(prefix="webhook-inbox-") as directory:

        def rate(into: str) -> Measures:
            return {"rows/s": pgbench.inserts(into, Path(directory), CONNECTIONS, seconds)["req/s"]}

        found = interleaved({NONE: partial(rate, empty), history: partial(rate, dsn)}, rounds)
    return Table("Inserts", {"rows/s": ""}, found, ("rows/s", NONE), ("rows/s",))


@click.command(help=(__doc__ or "").partition("\n")[0])
@click.option("--pending", default=1_000_000, show_default=True, help="Events that wait.")
@click.option("--processed", default=5_000_000, show_default=True, help="Events of the past.")
@click.option("--minutes", default=20.0, show_default=True, help="After which no more of the past are stored.")
@click.option("--rounds", default=3, show_default=True, help="Of the inserts.")
@click.option("--seconds", default=10.0, show_default=True, help="Of each round of inserts.")
@click.option("--write", is_flag=True, help="Write docs/benchmarks/claim_cost.json and .svg.")
def main(  # noqa: PLR0913 - one argument an option
    *, pending: int, processed: int, minutes: float, rounds: int, seconds: float, write: bool
) -> None:
    """Measure, and print the tables."""
    command = shlex.join(["python", "-m", "benchmarks.claim_cost", *sys.argv[1:]])
    with server() as dsn, psycopg.connect(dsn, **database.CONNECT) as conn:
        conn.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        migrations.migrate(conn)
        claims: dict[str, list[Measures]] = {}
        name = NONE
        for name, pages, milliseconds in cases(conn, dsn, pending, processed, 60 * minutes):
            claims[name] = [{"pages": float(pages), "time": milliseconds}]
            click.echo(f"{name}: {pages:,} pages, {milliseconds:.1f} ms", err=True)
        tables = [
            Table("Claims", {"pages": "", "time": "ms"}, claims, ("pages", FIRST), ("pages", "time")),
            inserts(dsn, rounds, seconds, name),
        ]
        Report("claim_cost", command, conditions(dsn), tables).publish(write=write)


if __name__ == "__main__":
    main()
