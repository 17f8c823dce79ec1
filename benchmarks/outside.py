"""How many events a second one worker takes through an outside handler that waits 20 ms for another service.

    python -m benchmarks.outside [--events 4000] [--concurrency 16] [--milliseconds 20]

Prints the rate and its share of what the waiting alone allows: concurrency / handler time. Needs DATABASE_URL of an
empty database, or the demo extra, whose PostgreSQL it then starts on a directory it removes.
"""

import argparse
import threading
import time
from functools import partial

import psycopg

from benchmarks.server import server
from processor import migrations, on
from processor.event import Event
from processor.workers import Crew
from sql import database

EVENTS = """
    INSERT INTO webhook_events (source, provider, event_id, event_type, subject, payload)
    SELECT 'benchmark', 'twilio', n, 'benchmark.outside', 'call/' || n, '{}' FROM generate_series(1, %s) AS n
"""


def main() -> None:
    """Print the rate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=4000, help="default %(default)s")
    parser.add_argument("--concurrency", type=int, default=16, help="default %(default)s")
    parser.add_argument("--milliseconds", type=float, default=20, help="that a handler waits (default %(default)s)")
    given = parser.parse_args()

    @on("benchmark.outside", outside=True)
    def call_a_service(event: Event) -> None:  # noqa: ARG001 - nothing is sent
        time.sleep(given.milliseconds / 1000)

    with server() as dsn, psycopg.connect(dsn, **database.CONNECT) as conn:
        migrations.migrate(conn)
        conn.execute(EVENTS, [given.events])
        conn.execute("VACUUM ANALYZE webhook_events")
        connect = partial(psycopg.connect, dsn, **database.CONNECT)
        _, make = Crew(connect, concurrency=given.concurrency, stopping=threading.Event()).makes()
        began = time.perf_counter()
        totals = make().run(1.0, once=True)
        seconds = time.perf_counter() - began
    most = given.concurrency / (given.milliseconds / 1000)
    rate = totals.handled / seconds
    print(f"{totals.handled} events in {seconds:.1f} s: {rate:.0f}/s, {rate / most:.2f} of {most:.0f}/s")


if __name__ == "__main__":
    main()
