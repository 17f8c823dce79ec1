"""The servers that ingest.py compares: what each is, and how what it has stored is counted.

All but ours read a body and store it under its digest, verify nothing, and run on uvicorn at its fastest.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import serving
from benchmarks.prepared import ENVIRON
from benchmarks.rounds import need
from processor import migrations, postgres

Count = Callable[[], int]


@dataclass(frozen=True)
class Door:
    """A running server. stored: events there are by now, None: it stores nothing.

    repeated: deliveries that it took for duplicates and wrote down, None: it writes none down.
    """

    port: int
    pid: int
    stored: Count | None = None
    repeated: Count | None = None
    knows_duplicates: bool = False


Start = Callable[[str, Path], AbstractContextManager[Door]]  # of a DSN and a log file


@contextmanager
def ours(dsn: str, log: Path) -> Iterator[Door]:
    """Run `receiver run` as it is installed, on a database with our schema."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        migrations.migrate(conn)
    with serving.receiver(dsn, log, ENVIRON) as (port, pid):
        yield Door(port, pid, rows(dsn, "webhook_events"), rows(dsn, "webhook_duplicates"), knows_duplicates=True)


@contextmanager
def bare(dsn: str, log: Path) -> Iterator[Door]:
    """Run a Starlette route that reads the body."""
    need("uvicorn", "uvloop", "httptools")
    with serving.uvicorn("bare", log, {"DATABASE_URL": dsn}) as (port, pid):
        yield Door(port, pid)


def in_table(app: str, table: str, *modules: str) -> Start:
    """Return what runs an app of benchmarks/peers that stores into a table, and needs these modules."""

    @contextmanager
    def start(dsn: str, log: Path) -> Iterator[Door]:
        need("uvicorn", "uvloop", "httptools", "fastapi", *modules)
        with serving.uvicorn(app, log, {"DATABASE_URL": dsn}) as (port, pid):
            yield Door(port, pid, rows(dsn, table), knows_duplicates=True)

    return start


@contextmanager
def celery(_dsn: str, log: Path) -> Iterator[Door]:
    """Run Celery's door and its broker: a Redis that writes each task to disk before it answers."""
    need("uvicorn", "uvloop", "httptools", "fastapi", "celery", "redis", programs=("redis-server",))
    import redis  # noqa: PLC0415 - only who measures it has it

    port = postgres.free_port([0])
    directory = log.with_suffix(".redis")
    directory.mkdir(exist_ok=True)
    arguments = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--save", ""]
    arguments += ["--appendonly", "yes", "--appendfsync", "always"]
    client: Any = redis.Redis(port=port)

    def up() -> bool:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False

    with serving.running(arguments, {}, log, "redis-server") as broker:
        serving.wait_for(up, broker, log)
        client.flushall()
        with serving.uvicorn("celery_door", log, {"REDIS_URL": f"redis://127.0.0.1:{port}/0"}) as (door, pid):
            yield Door(door, pid, lambda: int(client.llen("celery")))


def rows(dsn: str, table: str) -> Count:
    """Return what counts a table's rows."""

    def count() -> int:
        with psycopg.connect(dsn, autocommit=True) as conn:
            found = conn.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
        return int(found[0]) if found else 0

    return count


DOORS: dict[str, Start] = {
    "bare Starlette": bare,
    "ours": ours,
    "FastAPI + INSERT": in_table("naive", "naive_events"),
    "FastAPI + PgQueuer": in_table("pgqueuer_door", "pgqueuer", "pgqueuer", "asyncpg"),
    "FastAPI + Procrastinate": in_table("procrastinate_door", "procrastinate_jobs", "procrastinate"),
    "FastAPI + Celery": celery,
}
