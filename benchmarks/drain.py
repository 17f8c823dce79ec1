"""How many stored events a second the workers hand to a handler that writes one row.

    python -m benchmarks.drain [--events 10000] [--workers 1]

The events are five of each subject; the time is from the first worker's start to the last event's commit. Needs
DATABASE_URL of an empty database, or the demo extra, whose PostgreSQL it then starts on a directory it removes.
"""

import argparse
import os
import subprocess
import sys
import time

import psycopg

from benchmarks.claim_cost import TYPE, add, settle
from benchmarks.server import server
from processor import Event, migrations, on
from sql import database

WRITTEN = "benchmark.written"


@on(WRITTEN)
def write(event: Event, conn: psycopg.Connection) -> None:
    """Write one row."""
    conn.execute(
        "INSERT INTO drained VALUES (%s, %s) ON CONFLICT (subject) DO UPDATE SET event = excluded.event",
        [event.subject, event.id],
    )


def main() -> None:
    """Print the rate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000, help="default %(default)s")
    parser.add_argument("--workers", type=int, default=1, help="default %(default)s")
    given = parser.parse_args()
    with server() as dsn, psycopg.connect(dsn, **database.CONNECT) as conn:
        migrations.migrate(conn)
        conn.execute("CREATE TABLE IF NOT EXISTS drained (subject text PRIMARY KEY, event bigint)")
        add(conn, "drain", given.events)
        conn.execute("UPDATE webhook_events SET event_type = %s WHERE event_type = %s", [WRITTEN, TYPE])
        settle(conn)
        command = [sys.executable, "-m", "processor", "run", "--handlers", "benchmarks.drain", "--workers"]
        began = time.perf_counter()
        with subprocess.Popen(
            [*command, str(given.workers)], env={**os.environ, "DATABASE_URL": dsn, "LOG_LEVEL": "ERROR"}
        ) as processor:
            left = "SELECT EXISTS (SELECT FROM webhook_events WHERE processed_at IS NULL)"
            while conn.execute(left).fetchone() == (True,) and time.perf_counter() - began < 300:
                time.sleep(0.02)
            seconds = time.perf_counter() - began
            processor.terminate()
        print(f"{given.events} events, {given.workers} workers: {seconds:.1f} s, {given.events / seconds:.0f}/s")


if __name__ == "__main__":
    main()
