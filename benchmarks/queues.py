"""The queues that drain.py compares: how jobs are stored in each, what works on them, and how many are left.

Each is set as its own documentation or benchmark sets it for throughput, and stores with what it has for many at once.
Ours does so exactly once and in the order of a subject; the others at least once, in no order.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks import serving
from benchmarks.broker import redis
from benchmarks.claim_cost import add
from benchmarks.drain_handlers import TAKES_BATCHES
from benchmarks.rounds import Missing, need
from benchmarks.server import url
from processor import migrations

PEERS = Path(__file__).parent / "peers"
HANDLERS = "benchmarks.drain_handlers"


@dataclass(frozen=True)
class Queue:
    """One queue with jobs in it.

    command: what works on them, a program and its arguments; environ: what that needs besides; left: jobs not done
    """

    command: list[str]
    environ: Mapping[str, str]
    left: Callable[[], int]

    def working(self, marks: Path, jobs: int, log: Path) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """Run what works on them, with its marks (benchmarks/jobs.py) in a file."""
        environ = {**self.environ, "MARKS": str(marks), "MARKS_LAST": str(jobs)}
        return serving.running(self.command[1:], environ, log, self.command[0])


Fill = Callable[[str, Path, str, int], AbstractContextManager[Queue]]  # of a DSN, a directory, a kind and a count


def ours(workers: int = 1, suffix: str = "") -> Fill:
    """Return what fills our table; `processor run` is as it is installed, but for its lines about what went well."""

    @contextmanager
    def fill(dsn: str, _directory: Path, kind: str, count: int) -> Iterator[Queue]:
        if suffix and not TAKES_BATCHES:
            raise Missing("@on takes no batch here")
        with psycopg.connect(dsn, autocommit=True) as conn:
            migrations.migrate(conn)
            add(conn, "drain", count, event_type=kind + suffix)
        run = [sys.executable, "-m", "processor", "run", "--handlers", HANDLERS, "--workers", str(workers)]
        left = counted(dsn, "webhook_events WHERE processed_at IS NULL AND dead_at IS NULL")
        yield Queue(run, {"DATABASE_URL": dsn, "LOG_LEVEL": "WARNING"}, left)

    return fill


def python(script: str, jobs: str, *modules: str) -> Fill:
    """Return what has a script of benchmarks/peers fill its table. jobs: FROM and WHERE of those left."""

    @contextmanager
    def fill(dsn: str, directory: Path, kind: str, count: int) -> Iterator[Queue]:
        need(*modules)
        command, environ = [sys.executable, "-m", f"benchmarks.peers.{script}"], {"DATABASE_URL": url(dsn)}
        store(command, environ, directory, kind, count)
        yield Queue([*command, "work", kind], environ, counted(dsn, jobs))

    return fill


def node(script: str, jobs: str, package: str) -> Fill:
    """As python, for a script of Node's."""

    @contextmanager
    def fill(dsn: str, directory: Path, kind: str, count: int) -> Iterator[Queue]:
        need_node(package)
        command, environ = ["node", str(PEERS / script)], {"DATABASE_URL": url(dsn), "NO_LOG_SUCCESS": "1"}
        store(command, environ, directory, kind, count)
        yield Queue([*command, "work", kind], environ, counted(dsn, jobs))

    return fill


@contextmanager
def celery(dsn: str, directory: Path, kind: str, count: int) -> Iterator[Queue]:
    """Fill a Redis, which is let off its fsync for that."""
    need("celery", "redis")
    command = [sys.executable, "-m", "benchmarks.peers.celery_jobs"]
    with redis(directory / "redis") as (address, client):
        environ = {"DATABASE_URL": dsn, "REDIS_URL": address}
        client.config_set("appendfsync", "no")
        store(command, environ, directory, kind, count)
        client.config_set("appendfsync", "always")
        yield Queue([*command, "work"], environ, lambda: int(client.llen("celery") + client.hlen("unacked")))


def store(command: list[str], environ: Mapping[str, str], directory: Path, kind: str, count: int) -> None:
    """Have a script store so many jobs. Raises SystemExit with what it said where it fails."""
    everything = {**os.environ, **environ}
    with (directory / "log").open("ab") as log:
        result = subprocess.run(
            [*command, "store", kind, str(count)], env=everything, cwd=serving.ROOT, stderr=log, check=False
        )
    if result.returncode:
        said = (directory / "log").read_text(encoding="utf-8", errors="replace")[-2000:]
        raise SystemExit(f"error: {command[-1]} store: exit {result.returncode}; it said:\n{said}")


def counted(dsn: str, jobs: str) -> Callable[[], int]:
    """Return what counts jobs, by FROM and WHERE."""

    def left() -> int:
        with psycopg.connect(dsn, autocommit=True) as conn:
            row = conn.execute(f"SELECT count(*) FROM {jobs}".encode()).fetchone()
        return int(row[0]) if row else 0

    return left


def need_node(package: str) -> None:
    """Raise Missing unless Node has it."""
    need(programs=("node",))
    if not (PEERS / "node_modules" / package).exists():
        raise Missing(f"no {package}; npm ci --prefix benchmarks/peers")


BASE = "ours"
QUEUES: dict[str, Fill] = {
    BASE: ours(),
    "ours, batch handler": ours(suffix=".batch"),
    "ours, 2 workers": ours(workers=2),
    "graphile-worker": node("graphile_jobs.js", "graphile_worker._private_jobs", "graphile-worker"),
    "pg-boss": node("pgboss_jobs.js", "pgboss.job WHERE state < 'completed'", "pg-boss"),
    "PgQueuer": python("pgqueuer_jobs", "pgqueuer", "pgqueuer", "asyncpg"),
    "Procrastinate": python(
        "procrastinate_jobs", "procrastinate_jobs WHERE status IN ('todo', 'doing')", "procrastinate"
    ),
    "Celery": celery,
}
PEERS_ONLY = [name for name in QUEUES if not name.startswith(BASE)]
