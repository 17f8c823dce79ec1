"""How many deliveries a second one process takes, ours and its peers', and how long an answer takes.

    python -m benchmarks.ingest [--rounds 3] [--seconds 4] [--connections 32] [--only ours] [--write]

Closed loop: Twilio's signed forms of 1 KB, each a new event, on kept connections, by wrk where it is installed. Each
server is one process on a database of its own in one PostgreSQL; after each round what it stored is counted against
the 2xx. Then the same requests come again, where a server knows duplicates. Ours is `receiver run` as it is installed,
its log at INFO into a file; it verifies, the peers don't. Open loop: at fixed times, each answer timed from when its
request was due; beside it, what a write and a flush of 8 KB take by themselves. DATABASE_URL: a server whose user may
create databases; without it a private PostgreSQL is started.
"""

import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click
import psycopg

from benchmarks import load, pgbench
from benchmarks.conditions import conditions
from benchmarks.disk import flushes
from benchmarks.doors import DOORS, Count, Door
from benchmarks.prepared import Prepared, large
from benchmarks.report import Report, Table
from benchmarks.rounds import Measures, interleaved
from benchmarks.server import empty_database, server
from benchmarks.usage import cpu_seconds, server_of

FASTEST = 15_000  # requests a second that are prepared
SETTLE = 60.0  # seconds, for a spool to be emptied
LARGE_EVERY = 20  # of the mixed bodies
PACKAGES = ("fastapi", "uvicorn", "uvloop", "httptools", "pgqueuer", "asyncpg", "procrastinate", "celery", "redis")
BASE = "bare Starlette"
PGBENCH = "pgbench, the same row"
DISK = "the disk alone, 8 KB and a flush"
CLOSED = {
    "req/s": "", "p50": "ms", "p99": "ms", "max": "ms", "server": "µs a request", "PostgreSQL": "µs a request",
    "again": "req/s", "again ÷ first": "", "late": "",
}  # fmt: skip
OPEN = {"answers": "", "p50": "ms", "p99": "ms", "max": "ms", "late": ""}


@click.command(help=(__doc__ or "").partition("\n")[0])
@click.option("--rounds", default=3, show_default=True, help="Of all servers in turns.")
@click.option("--seconds", default=4.0, show_default=True, help="Of each closed loop.")
@click.option("--connections", default=32, show_default=True, help="Of each closed loop.")
@click.option("--rate", default=300.0, show_default=True, help="Of the open loop, a second; 0: without it.")
@click.option("--open-seconds", default=20.0, show_default=True, help="Of each open loop.")
@click.option("--warm-up", default=1000, show_default=True, help="Requests to each server that are not counted.")
@click.option("--only", multiple=True, type=click.Choice([*DOORS, PGBENCH]), help="This server; may be repeated.")
@click.option("--write", is_flag=True, help="Write docs/benchmarks/ingest.json and .svg.")
def main(  # noqa: PLR0913 - one argument an option
    *,
    rounds: int,
    seconds: float,
    connections: int,
    rate: float,
    open_seconds: float,
    warm_up: int,
    only: tuple[str, ...],
    write: bool,
) -> None:
    """Measure, and print the tables."""
    command = shlex.join(["python", "-m", "benchmarks.ingest", *sys.argv[1:]])
    with server() as dsn, tempfile.TemporaryDirectory(prefix="webhook-inbox-") as directory:
        bench = Ingest(dsn, Path(directory), connections, seconds, warm_up)
        cases = {name: partial(bench.closed, name) for name in DOORS} | {PGBENCH: bench.pgbench}
        chosen = {name: case for name, case in cases.items() if not only or name in only}
        title = f"Closed loop, {connections} connections, 1 KB"
        tables = [Table(title, CLOSED, interleaved(chosen, rounds), ("req/s", BASE), ("req/s", "p99"))]
        if rate:
            opened = {
                f"{name}, {kind}": partial(bench.open, name, rate, open_seconds, mixed=mixed)
                for name in (BASE, "ours")
                for kind, mixed in (("1 KB", False), ("1 KB, 5 % of 600 KB", True))
                if name in chosen
            }
            opened[DISK] = partial(flushes, Path(directory), rate, open_seconds)
            tables.append(Table(f"Open loop, {rate:g}/s", OPEN, interleaved(opened, rounds), drawn=("p99",)))
        Report("ingest", command, conditions(dsn, PACKAGES), tables).publish(write=write)


class Ingest:
    """The measurements, on one PostgreSQL; in *directory* go the requests and the logs."""

    def __init__(self, dsn: str, directory: Path, connections: int, seconds: float, warm_up: int) -> None:
        self.dsn = dsn
        self.postgres = server_of(dsn)
        self.directory = directory
        self.connections = connections
        self.seconds = seconds
        self.warm_up = warm_up
        self.prepared = Prepared(directory / "requests", self.warm_up + round(FASTEST * max(1.0, seconds)))

    @contextmanager
    def started(self, name: str) -> Iterator[Door]:
        """Run one of the servers on a database of its own, warm."""
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            conn.execute("CHECKPOINT")  # so that it meets nobody's round in particular
        with empty_database(self.dsn) as own, DOORS[name](own, self.directory / "log") as door:
            load.each(door.port, self.prepared.read(0, self.warm_up), self.connections)
            yield door

    def closed(self, name: str) -> Measures:
        """Return what one server does with new events, and with the same again."""
        with self.started(name) as door:
            first = self._counted(name, door, (self.warm_up, self.prepared.count - self.warm_up))
            if not door.knows_duplicates or not door.stored:
                return first
            events, written = door.stored(), door.repeated and door.repeated()
            # What was cut off at the end may not have been stored, or be stored only now.
            span = self.warm_up, events - self.warm_up - self.connections
            again = load.closed(door.port, self.prepared, self.connections, self.seconds, span)
            if door.repeated and written is not None:
                settled(f"{name}: duplicates", again.count, door.repeated, written, self.connections)
            check(f"{name}: duplicates stored as events", 0, door.stored() - events, self.connections)
            rate = again.count / again.seconds
            return {**first, "again": rate, "again ÷ first": rate / first["req/s"]}

    def _counted(self, name: str, door: Door, span: tuple[int, int]) -> Measures:
        """Return the measures of a closed loop of new events, after a look at what is stored."""
        before = door.stored() if door.stored else 0
        cpu = self._cpu(door)
        found = load.closed(door.port, self.prepared, self.connections, self.seconds, span)
        spent = [1e6 * (after - since) / found.count for after, since in zip(self._cpu(door), cpu, strict=True)]
        measures = {"req/s": found.count / found.seconds, "p50": found.p50, "p99": found.p99, "max": found.max}
        if door.stored:
            measures["late"] = settled(f"{name}: events", found.count, door.stored, before, self.connections)
        return measures | dict(zip(("server", "PostgreSQL"), spent, strict=False))

    def _cpu(self, door: Door) -> list[float]:
        """Return the processor seconds until now: the server's, PostgreSQL's where it runs here."""
        return [cpu_seconds(pid) for pid in (door.pid, self.postgres) if pid]

    def open(self, name: str, rate: float, seconds: float, *, mixed: bool) -> Measures:
        """Return how long answers take at a fixed rate, with each so many'th body large where *mixed*."""
        requests: Sequence[bytes] = self.prepared.read(self.warm_up, round(rate * seconds))
        if mixed:
            requests = [one if number % LARGE_EVERY else large(number) for number, one in enumerate(requests)]
        with self.started(name) as door:
            before = door.stored() if door.stored else 0
            found = load.open_loop(door.port, requests, rate)
            measures: Measures = {"answers": found.count, "p50": found.p50, "p99": found.p99, "max": found.max}
            if door.stored:
                measures["late"] = settled(f"{name}: events", found.count, door.stored, before, 0)
        return measures

    def pgbench(self) -> Measures:
        """Return what PostgreSQL does by itself."""
        with empty_database(self.dsn) as own:
            return pgbench.inserts(own, self.directory, self.connections, self.seconds)


def settled(what: str, answers: int, stored: Count, before: int, cut_off: int) -> int:
    """Return how many of the answered were not in the table yet when the loop ended: they were in the spool.

    Waits until they are. Raises SystemExit as check.
    """
    late = max(0, answers - (stored() - before))
    until = time.monotonic() + SETTLE
    while stored() - before < answers and time.monotonic() < until:
        time.sleep(0.1)
    check(what, answers, stored() - before, cut_off)
    return late


def check(what: str, answers: int, stored: int, cut_off: int) -> None:
    """Raise SystemExit unless as many are stored as were answered 2xx, and at most *cut_off* more, at the end."""
    if not answers <= stored <= answers + cut_off:
        raise SystemExit(f"error: {what}: expected {answers}, or up to {cut_off} more, got {stored}")


if __name__ == "__main__":
    main()
