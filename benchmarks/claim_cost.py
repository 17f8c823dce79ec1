"""What a claim of 50 events reads: behind a long history, a deep backlog, a blocked subject, an old snapshot.

    python -m benchmarks.claim_cost [--pending 1000000] [--processed 5000000]

Prints a row a case: the 8 KiB pages that one claim touches (EXPLAIN ANALYZE's shared buffers, the median of nine
claims, each followed by its batch's completion), that as a multiple of the first case, and its milliseconds.
Needs DATABASE_URL of an empty database, or the demo extra, whose PostgreSQL it then starts on a directory it removes.
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from typing import LiteralString

import psycopg
from psycopg import Connection

from benchmarks.server import server
from processor import migrations, on
from processor.cursor import Cursor
from processor.loop import Processor
from processor.session import Session
from sql import database, load

BATCH, CLAIMS = 50, 9
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


def cases(conn: Connection, dsn: str, pending: int, processed: int) -> Iterator[tuple[str, int, float]]:
    """Yield what each case is called and costs."""
    add(conn, "few", 1000)
    settle(conn)
    yield "1,000 pending, no history", *claim_cost(conn, Cursor())

    add(conn, "blocked", 1)
    conn.execute(
        "UPDATE webhook_events SET next_attempt_at = now() + interval '1 hour', last_error = 'down', attempts = 1"
        " WHERE subject = 'blocked/0'"
    )
    conn.execute(
        "INSERT INTO webhook_events (source, provider, event_id, event_type, subject, payload, next_attempt_at)"
        " SELECT 'benchmark', 'twilio', 'follower' || n, %s, 'blocked/0', '{}', now() - interval '1 hour'"
        " FROM generate_series(1, 100000) AS n", [TYPE]
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
    print(f"{claims - 1} claims park the 100,000 followers, at most {worst * 1000:.0f} ms each")
    yield "behind a blocked subject with 100,000 followers", *claim_cost(conn, worker.cursor)

    conn.execute("TRUNCATE webhook_events CASCADE")
    add(conn, "backlog", 64_000 + BATCH * CLAIMS)
    settle(conn)
    with psycopg.connect(dsn) as report:
        report.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        report.execute("SELECT count(*) FROM webhook_events")
        worker = drain(conn, 60_000)
        yield "after 60,000 completions under a held snapshot", *claim_cost(conn, worker.cursor)
        yield "  the same, a full look from the oldest event on", *look(conn, Cursor())

    conn.execute("TRUNCATE webhook_events CASCADE")
    print(f"storing {processed:,} + {pending:,} events ...", flush=True)
    add(conn, "history", processed, done=True, age="2 days")
    add(conn, "backlog", pending)
    settle(conn)
    yield f"{pending:,} pending, {processed:,} processed", *claim_cost(conn, Cursor())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pending", type=int, default=1_000_000, help="events that wait (default %(default)s)")
    parser.add_argument("--processed", type=int, default=5_000_000, help="events of the past (default %(default)s)")
    given = parser.parse_args()
    with server() as dsn, psycopg.connect(dsn, **database.CONNECT) as conn:
        conn.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        migrations.migrate(conn)
        first = 0
        for name, pages, milliseconds in cases(conn, dsn, given.pending, given.processed):
            first = first or pages
            print(f"{name:<50} {pages:>7,} pages  {pages / first:>5.2f} x  {milliseconds:>7.1f} ms", flush=True)


if __name__ == "__main__":
    main()
