"""Whether the receiver's memory grows over a million deliveries, and the processor's over a long drain.

    python -m benchmarks.memory [--deliveries 1000000] [--events 200000] [--seconds 10] [--write]

The receiver's resident memory is read every --seconds of a closed loop, over which its rows are counted against the
2xx, and removed; the processor's while it hands events to a handler that does nothing. Slopes are by least squares
over the second half. DATABASE_URL: as for benchmarks.ingest.
"""

import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click
import psycopg

from benchmarks import load, serving
from benchmarks.conditions import conditions
from benchmarks.doors import ours, rows
from benchmarks.ingest import FASTEST, settled
from benchmarks.prepared import Prepared
from benchmarks.report import Report, Table
from benchmarks.rounds import Measures
from benchmarks.server import empty_database, server
from benchmarks.usage import rss, tree
from processor import migrations

MB = 1e6
POINTS = 10  # of the receiver's curve that are shown
LOOKS = 20  # at the processor, over a drain
EVENTS = """
    INSERT INTO webhook_events (source, provider, event_id, event_type, subject, payload, body)
    SELECT 'benchmark', 'twilio', 'e' || n, 'call.ringing', 'call/' || n / 5, jsonb_build_object('n', n),
           convert_to(repeat('x', 800), 'UTF8')
      FROM generate_series(1, %s) AS n
"""
Curve = list[tuple[int, float]]  # how much was done, MB


@click.command(help=(__doc__ or "").partition("\n")[0])
@click.option("--deliveries", default=1_000_000, show_default=True, help="To the receiver.")
@click.option("--events", default=200_000, show_default=True, help="To the processor.")
@click.option("--seconds", default=10.0, show_default=True, help="Between two looks at the receiver.")
@click.option("--connections", default=32, show_default=True, help="To the receiver.")
@click.option("--write", is_flag=True, help="Write docs/benchmarks/memory.json and .svg.")
def main(*, deliveries: int, events: int, seconds: float, connections: int, write: bool) -> None:
    """Measure, and print the tables."""
    command = shlex.join(["python", "-m", "benchmarks.memory", *sys.argv[1:]])
    with server() as dsn, tempfile.TemporaryDirectory(prefix="webhook-inbox-") as directory:
        with empty_database(dsn) as own:
            curve = receiver(own, Path(directory), deliveries, seconds, connections)
        with empty_database(dsn) as own:
            curves = {"receiver": curve} | processor(own, Path(directory), events)
        found = {name: [summary(points)] for name, points in curves.items()}
        shown = curve[:: -(-len(curve) // POINTS)]
        points = {f"{count:,} deliveries": [{"RSS": size}] for count, size in shown}
        tables = [
            Table(f"Memory over {deliveries:,} deliveries and {events:,} events", COLUMNS, found),
            Table("The receiver's memory after so many deliveries", {"RSS": "MB"}, points, drawn=("RSS",)),
        ]
        Report("memory", command, conditions(dsn), tables).publish(write=write)


COLUMNS = {"first": "MB", "last": "MB", "most": "MB", "slope": "MB a million, second half"}


def receiver(dsn: str, directory: Path, deliveries: int, seconds: float, connections: int) -> Curve:
    """Send so many deliveries, and return the receiver's memory on the way."""
    curve, sent, first = [], 0, 0
    with ours(dsn, directory / "log") as door:
        while sent < deliveries:
            prepared = Prepared(directory / "requests", round(FASTEST * max(1.0, seconds)), first=first)
            found = load.closed(door.port, prepared, connections, seconds, (0, prepared.count))
            # And what the slice before was cut off from.
            settled("receiver: events", found.count, rows(dsn, "webhook_events"), 0, 2 * connections)
            with psycopg.connect(dsn, autocommit=True) as conn:
                conn.execute("TRUNCATE webhook_events, webhook_duplicates CASCADE")
            sent, first = sent + found.count, first + prepared.count
            curve.append((sent, size_of(tree(door.pid))))
            click.echo(f"{sent:,} deliveries: {curve[-1][1]:.1f} MB", err=True)
    return curve


def processor(dsn: str, directory: Path, events: int) -> dict[str, Curve]:
    """Store so many events, drain them, and return the memory of the processor and of its worker on the way."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        migrations.migrate(conn)
        conn.execute(EVENTS, [events])
        conn.execute("VACUUM ANALYZE webhook_events")
        left = "SELECT count(*) FROM webhook_events WHERE processed_at IS NULL"
        curves: dict[str, Curve] = {"processor": [], "processor's worker": []}
        arguments = ["-m", "processor", "run", "--handlers", "benchmarks.noop"]
        with serving.running(arguments, {"DATABASE_URL": dsn}, directory / "processor.log") as process:
            done, looked = 0, 0
            until = time.monotonic() + 120 + events / 500
            while done < events:
                done = events - conn.execute(left).fetchall()[0][0]
                if process.poll() is not None or time.monotonic() > until:
                    raise SystemExit(f"error: the processor has ended, or is too slow: {done} of {events} handled")
                if done > looked:
                    parent, *workers = tree(process.pid)
                    curves["processor"].append((done, size_of([parent])))
                    curves["processor's worker"].append((done, size_of(workers)))
                    looked = done + events // LOOKS
                time.sleep(0.05)
    return curves


def size_of(pids: Sequence[int]) -> float:
    """Return the resident memory of these processes, in MB."""
    return sum(map(rss, pids)) / MB


def summary(curve: Curve) -> Measures:
    """Return what a curve comes to; no slope of fewer than two points."""
    sizes = [size for _, size in curve]
    found = {"first": sizes[0], "last": sizes[-1], "most": max(sizes)}
    half = curve[len(curve) // 2 :]
    if len(half) >= 2:
        counts, sizes = [done / 1e6 for done, _ in half], [size for _, size in half]
        found["slope"] = statistics.linear_regression(counts, sizes).slope
    return found


if __name__ == "__main__":
    main()
