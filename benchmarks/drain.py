"""How many stored events a second one worker process handles, ours and its peers'.

    python -m benchmarks.drain [--events 20000] [--rounds 3] [--seconds 10] [--only ours] [--write]

Each queue gets so many jobs of 600 bytes, five of each subject, and is vacuumed; then one worker process is started,
and timed from its first job's start until none is left: so the time of starting is nobody's. A handler does nothing, or
upserts one row, by the same statement everywhere; the rows are counted afterwards. Who isn't done after --seconds is
stopped there, and its rate is that of what it had done. Each is on a database of its own in one PostgreSQL, with
fsync. DATABASE_URL: a server whose user may create databases; without it a private PostgreSQL is started.
"""

import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import psycopg

from benchmarks.conditions import conditions
from benchmarks.jobs import DRAINED, KINDS
from benchmarks.queues import BASE, PEERS_ONLY, QUEUES, Queue
from benchmarks.report import Report, Table
from benchmarks.rounds import Measures, interleaved
from benchmarks.server import empty_database, server
from benchmarks.usage import cpu_seconds, server_of

POLL = 0.005  # seconds
DEADLINE = 60.0  # seconds, until the first job begins
TITLES = {"nothing": "a handler that does nothing", "upsert": "a handler with one upsert"}
COLUMNS = {"events/s": "", "done": "", "worker": "µs an event", "PostgreSQL": "µs an event"}
PACKAGES = ("pgqueuer", "asyncpg", "procrastinate", "celery", "redis")
TWO = "ours, 2 workers"


@click.command(help=(__doc__ or "").partition("\n")[0])
@click.option("--events", default=20_000, show_default=True, help="That wait.")
@click.option("--rounds", default=3, show_default=True, help="Of all queues in turns.")
@click.option("--seconds", default=10.0, show_default=True, help="After which one that isn't done is stopped.")
@click.option("--kind", multiple=True, default=KINDS, type=click.Choice(KINDS), help="Of handler; may be repeated.")
@click.option("--only", multiple=True, type=click.Choice(list(QUEUES)), help="This queue; may be repeated.")
@click.option("--write", is_flag=True, help="Write docs/benchmarks/drain.json and .svg.")
def main(  # noqa: PLR0913 - one argument an option
    *, events: int, rounds: int, seconds: float, kind: tuple[str, ...], only: tuple[str, ...], write: bool
) -> None:
    """Measure, and print the tables."""
    command = shlex.join(["python", "-m", "benchmarks.drain", *sys.argv[1:]])
    with server() as dsn, tempfile.TemporaryDirectory(prefix="webhook-inbox-") as directory:
        bench = Drain(dsn, Path(directory), events, seconds)
        cases = {
            (one, name): partial(bench.measure, name, one)
            for one in kind
            for name in QUEUES
            if (not only or name in only) and not (one == "nothing" and name == "ours, batch handler")
        }
        found = interleaved({f"{one}: {name}": case for (one, name), case in cases.items()}, rounds)
        tables = []
        for one in kind:
            rows = {name: found[f"{one}: {name}"] for _, name in cases if f"{one}: {name}" in found}
            tables.append(table(f"{events:,} waiting, {TITLES[one]}", rows))
        Report("drain", command, conditions(dsn, PACKAGES), tables).publish(write=write)


def table(title: str, rows: dict[str, list[Measures]]) -> Table:
    """Return the rows beside the best peer's."""
    plain = Table(title, COLUMNS, rows).medians()
    best = max((name for name in PEERS_ONLY if name in rows), key=lambda name: plain[name]["events/s"], default=BASE)
    return Table(title, COLUMNS, rows, ("events/s", best), ("events/s",))


class Drain:
    """The measurements, on one PostgreSQL; the logs go to *directory*."""

    def __init__(self, dsn: str, directory: Path, events: int, seconds: float) -> None:
        self.dsn = dsn
        self.postgres = server_of(dsn)
        self.directory = directory
        self.events = events
        self.seconds = seconds

    def measure(self, name: str, kind: str) -> Measures:
        """Return what one queue's worker does. Raises SystemExit where its effects aren't those of what it did."""
        with empty_database(self.dsn) as dsn, psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute(DRAINED)
            with QUEUES[name](dsn, self.directory, kind, self.events) as queue:
                conn.execute("VACUUM ANALYZE")
                conn.execute("CHECKPOINT")  # so that it meets nobody's round in particular
                measures = self._work(queue, alone=name != TWO)
                complete = measures["done"] == self.events
            written = number(conn, "SELECT coalesce(sum(times), 0) FROM drained")
            # Who was stopped had more under way.
            if kind == "upsert" and (written != self.events if complete else written < measures["done"]):
                raise SystemExit(f"error: {name}: expected {measures['done']:.0f} effects, got {written}")
        return measures

    def _work(self, queue: Queue, *, alone: bool) -> Measures:
        """Have the jobs done. alone: by one process, whose marks tell when it began the last."""
        marks, log = self.directory / "marks", self.directory / "log"
        marks.unlink(missing_ok=True)
        with queue.working(marks, self.events, log) as process:
            until = time.monotonic() + DEADLINE
            first = wait_for(lambda: mark(marks, "first"), until)
            if not first:
                raise SystemExit(f"error: {process.args!r} began nothing; it said:\n{log.read_text()[-2000:]}")
            spent = self._cpu(process.pid)
            until = first + self.seconds
            if alone:  # nobody needs to count before
                wait_for(lambda: mark(marks, "last"), until)
            # Counting goes over all that was: it waits for as long as the last count took.
            left, ended = queue.left(), time.monotonic()
            while left and ended < until:
                time.sleep(POLL)
                left, ended = queue.left(), time.monotonic()
            done = self.events - left
            cpu = [1e6 * (now - then) / max(done, 1) for now, then in zip(self._cpu(process.pid), spent, strict=True)]
        measures = {"events/s": done / (ended - first), "done": float(done)}
        return measures | dict(zip(("worker", "PostgreSQL"), cpu, strict=False))

    def _cpu(self, worker: int) -> list[float]:
        """Return the processor seconds until now: the worker's, PostgreSQL's where it runs here."""
        return [cpu_seconds(pid) for pid in (worker, self.postgres) if pid]


def mark(file: Path, word: str) -> float:
    """Return when the first such mark was made, in monotonic seconds; 0: it wasn't."""
    lines = file.read_text(encoding="ascii").splitlines() if file.exists() else []
    return min((int(line.split()[1]) / 1e9 for line in lines if line.startswith(word)), default=0.0)


def wait_for(value: Callable[[], float], until: float) -> float:
    """Return *value()* as soon as it isn't 0, or 0 at a monotonic time."""
    while not (found := value()) and time.monotonic() < until:
        time.sleep(POLL)
    return found


def number(conn: psycopg.Connection[Any], query: str) -> int:
    """Return the one number that a query has for an answer."""
    row = conn.execute(query.encode()).fetchone()
    return int(row[0]) if row else 0


if __name__ == "__main__":
    main()
