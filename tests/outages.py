"""A PostgreSQL of a module's own, that its tests stop and start, and receivers with a spool before it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from benchmarks.server import answers
from processor import migrations, postgres
from tests.conftest import reachable_directory
from tests.processes import Command, agent_event, free_port, post, wait_for


class Database:
    """One that comes and goes, at the same address."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.server: postgres.Server | None = postgres.start(data_dir)
        self.dsn = make_conninfo(self.server.dsn, application_name="test")
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            migrations.migrate(conn)

    def stop(self) -> None:
        if self.server:
            self.server.stop()
        self.server = None

    def start(self) -> None:
        if not self.server:
            self.server = postgres.start(self.data_dir)

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            return conn.execute(query.encode()).fetchall()

    def events(self) -> list[str]:
        """Return the stored events' ids, in the order in which they were stored."""
        return [event_id for (event_id,) in self.ask("SELECT event_id FROM webhook_events ORDER BY id")]


@pytest.fixture(scope="module")
def own_database():
    with reachable_directory() as directory:
        try:
            database = Database(directory / "data")
        except postgres.Unavailable as reason:
            pytest.skip(f"no PostgreSQL to stop and start: {reason}")
        yield database
        database.stop()


@pytest.fixture
def database(own_database):
    """Up and empty at the test's start."""
    own_database.start()
    with psycopg.connect(own_database.dsn, autocommit=True) as conn:
        conn.execute("DELETE FROM webhook_events")
        conn.execute("DELETE FROM webhook_duplicates")
    return own_database


class Running:
    """A real receiver with a spool in *directory*."""

    def __init__(self, dsn: str, directory: Path, **environ: str) -> None:
        self.port = free_port()
        with pytest.MonkeyPatch.context() as patched:
            for name, value in {"SPOOL_DIR": str(directory), **environ}.items():
                patched.setenv(name, value)
            self.command = Command(dsn, "receiver", "run", "--port", str(self.port))
        wait_for(lambda: answers(self.port))

    def send(self, event_id: str, **fields: Any) -> int:
        """Send a signed delivery; return the status."""
        return post(self.port, *agent_event(event_id, **fields))

    def kill(self) -> None:
        self.command.process.kill()
        self.command.process.wait()


@contextmanager
def spooling(dsn: str, directory: Path, **environ: str) -> Iterator[Running]:
    running = Running(dsn, directory, **environ)
    try:
        yield running
    finally:
        running.command.stop()
