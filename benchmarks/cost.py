"""What an event costs besides time: WAL and disk; and what the commands cost by being there: idling, starting.

    python -m benchmarks.cost [--events 20000] [--idle 30] [--starts 10] [--write]

WAL: so many deliveries with a body of 800 bytes, over 32 connections, each of another call; then a processor whose
handler does nothing, then VACUUM. A checkpoint comes before it all and none in between, so that a page's first change
is written whole where full_page_writes is on. Disk: what the tables hold after that VACUUM. DATABASE_URL: as for
benchmarks.ingest.
"""

import os
import shlex
import subprocess
import sys
import tempfile
import time
from functools import partial
from itertools import pairwise
from pathlib import Path

import click
import psycopg
from psycopg import Connection

from benchmarks import load, serving
from benchmarks.conditions import conditions
from benchmarks.doors import ours
from benchmarks.prepared import ENVIRON, Prepared
from benchmarks.report import Report, Table
from benchmarks.rounds import Measures, interleaved
from benchmarks.server import empty_database, server
from benchmarks.usage import cpu_seconds, server_of
from processor import migrations

BODY = 800  # bytes
CONNECTIONS = 32
COMMANDS = {
    "processor --help": ("processor", "--help"),
    "processor status": ("processor", "status"),
    "processor events list": ("processor", "events", "list"),
    "processor handlers": ("processor", "handlers"),
    "receiver --help": ("receiver", "--help"),
    "receiver sources": ("receiver", "sources"),
}
SIZES = """
    SELECT coalesce(sum(pg_relation_size(oid)), 0), coalesce(sum(pg_indexes_size(oid)), 0),
           coalesce(sum(pg_total_relation_size(oid) - pg_relation_size(oid) - pg_indexes_size(oid)), 0)
      FROM pg_class WHERE relkind = 'r' AND relname LIKE 'webhook%%' AND (relname = 'webhook_events') = %s
"""


@click.command(help=(__doc__ or "").partition("\n")[0])
@click.option("--events", default=20_000, show_default=True, help="For WAL and disk.")
@click.option("--idle", default=30.0, show_default=True, help="Seconds of watching an idle process.")
@click.option("--starts", default=10, show_default=True, help="Of each command.")
@click.option("--write", is_flag=True, help="Write docs/benchmarks/cost.json and .svg.")
def main(*, events: int, idle: float, starts: int, write: bool) -> None:
    """Measure, and print the tables."""
    command = shlex.join(["python", "-m", "benchmarks.cost", *sys.argv[1:]])
    with server() as dsn, tempfile.TemporaryDirectory(prefix="webhook-inbox-") as directory:
        with empty_database(dsn) as own:
            written, kept = life(own, Path(directory), events)
            environ = {**os.environ, **ENVIRON, "DATABASE_URL": own, "SPOOL_DIR": "off"}
            started = interleaved({name: partial(start, environ, *words) for name, words in COMMANDS.items()}, starts)
        with empty_database(dsn) as own:
            idled = {
                "receiver run": [idle_receiver(own, Path(directory), idle)],
                "processor run --interval 5": [idle_processor(own, Path(directory), idle)],
            }
        tables = [
            Table("WAL over an event's life", {"WAL": "bytes an event"}, one_round(written), drawn=("WAL",)),
            Table("Disk after VACUUM", {"disk": "bytes an event"}, one_round(kept)),
            Table("Doing nothing", {"itself": "% of a core", "PostgreSQL": "% of a core"}, idled),
            Table("Starting", {"time": "ms", "processor time": "ms"}, started, drawn=("processor time",)),
        ]
        Report("cost", command, conditions(dsn), tables).publish(write=write)


def one_round(found: dict[str, Measures]) -> dict[str, list[Measures]]:
    """Return it as rounds."""
    return {name: [one] for name, one in found.items()}


def life(dsn: str, directory: Path, events: int) -> tuple[dict[str, Measures], dict[str, Measures]]:
    """Return the WAL of each part of an event's life, and the bytes of the tables after it."""
    prepared = Prepared(directory / "requests", events, size=BODY)
    with psycopg.connect(dsn, autocommit=True) as conn:
        with ours(dsn, directory / "log") as door:
            conn.execute("CHECKPOINT")
            marks = [wal(conn)]
            load.each(door.port, prepared.read(0, events), CONNECTIONS)
            expect(conn, "events stored", "SELECT count(*) FROM webhook_events", events)
        marks.append(wal(conn))
        handle(dsn, conn, directory, serving.DEADLINE + events / 100)
        expect(conn, "events handled", "SELECT count(*) FROM webhook_events WHERE processed_at IS NOT NULL", events)
        marks.append(wal(conn))
        conn.execute("VACUUM")
        marks.append(wal(conn))
        parts = [(after - before) / events for before, after in pairwise(marks)]
        sizes = [conn.execute(SIZES, [of_events]).fetchall()[0] for of_events in (True, False)]
    names = ("insert", "claim, handle, complete", "VACUUM")
    written = {name: {"WAL": part} for name, part in zip(names, parts, strict=True)} | {"all": {"WAL": sum(parts)}}
    heap, indexes, rest = (float(size) / events for size in sizes[0])
    others = float(sum(sizes[1])) / events
    kept = {"events": heap, "their indexes": indexes, "their TOAST and maps": rest, "other tables": others}
    kept["all"] = sum(kept.values())
    return written, {name: {"disk": size} for name, size in kept.items()}


def handle(dsn: str, conn: Connection, directory: Path, deadline: float) -> None:
    """Run a processor until nothing waits."""
    arguments = ["-m", "processor", "run", "--handlers", "benchmarks.noop"]
    with serving.running(arguments, {"DATABASE_URL": dsn}, directory / "processor.log") as process:
        serving.wait_for(
            lambda: not conn.execute("SELECT FROM webhook_events WHERE processed_at IS NULL LIMIT 1").fetchall(),
            process, directory / "processor.log", deadline,
        )  # fmt: skip


def wal(conn: Connection) -> int:
    """Return how many bytes of WAL were ever written."""
    return int(conn.execute("SELECT pg_current_wal_insert_lsn() - '0/0'").fetchall()[0][0])


def expect(conn: Connection, what: str, query: str, expected: int) -> None:
    """Raise SystemExit unless the query counts so many."""
    ((got,),) = conn.execute(query.encode()).fetchall()
    if got != expected:
        raise SystemExit(f"error: {what}: expected {expected}, got {got}")


def idle_receiver(dsn: str, directory: Path, seconds: float) -> Measures:
    """Return what a receiver takes that nobody calls."""
    with ours(dsn, directory / "log") as door:
        return idling(dsn, door.pid, seconds)


def idle_processor(dsn: str, directory: Path, seconds: float) -> Measures:
    """Return what a processor takes, with its worker, that has nothing to do."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        migrations.migrate(conn)
    arguments = ["-m", "processor", "run", "--interval", "5", "--handlers", "benchmarks.noop"]
    with serving.running(arguments, {"DATABASE_URL": dsn}, directory / "processor.log") as process:
        return idling(dsn, process.pid, seconds)


def idling(dsn: str, pid: int, seconds: float) -> Measures:
    """Return the percentages of a core that a process and PostgreSQL take, a moment after its start."""
    time.sleep(min(3.0, seconds))
    pids = {"itself": pid}
    if postgres := server_of(dsn):
        pids["PostgreSQL"] = postgres
    before = {name: cpu_seconds(one) for name, one in pids.items()}
    time.sleep(seconds)
    return {name: 100 * (cpu_seconds(one) - before[name]) / seconds for name, one in pids.items()}


def start(environ: dict[str, str], *words: str) -> Measures:
    """Return how long a command takes from its start to its end, and how much of that it computes."""
    before, began = os.times(), time.perf_counter()
    subprocess.run([sys.executable, "-m", *words], env=environ, cwd=serving.ROOT, capture_output=True, check=True)
    ended, after = time.perf_counter(), os.times()
    computed = after.children_user - before.children_user + after.children_system - before.children_system
    return {"time": 1000 * (ended - began), "processor time": 1000 * computed}


if __name__ == "__main__":
    main()
