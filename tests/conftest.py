"""A real PostgreSQL for the tests, and databases on it.

In this order: the server of TEST_DATABASE_URL (its user may create databases), a private one of the dev extra's
binaries, a container. None of them: the tests are skipped, or under CI the run is ended.
"""

import gc
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path

import psycopg
import pytest
from psycopg import errors, sql
from psycopg.conninfo import make_conninfo

from processor import migrations, postgres, postgres_binaries

# A receiver that a test starts keeps a spool only where the test says, and never one of whoever runs the tests.
os.environ.setdefault("SPOOL_DIR", "off")

PREFIX = f"inbox_{os.getpid()}"
NUMBERS = count(1)
MEMORY, ROOM = Path("/dev/shm"), 8 << 30
KEPT_TABLE = "webhook_migrations"
TABLES = """
    SELECT relnamespace::regnamespace::text, relname FROM pg_class
     WHERE relkind IN ('r', 'p') AND relname <> %s
       AND relnamespace::regnamespace::text NOT IN ('pg_catalog', 'pg_toast', 'information_schema')
"""
END_OTHERS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


class NoServer(Exception):
    """Why one way to a PostgreSQL is closed."""


def pytest_addoption(parser):
    parser.addoption("--seeds", type=int, default=1, metavar="N", help="run each fault test that takes a seed N times")
    parser.addoption("--seed", type=int, metavar="SEED", help="of the first of these runs; default: by chance")


def pytest_report_header():
    if "TEST_DATABASE_URL" in os.environ:
        return "postgres: the server of TEST_DATABASE_URL"
    try:
        package = postgres_binaries.package()
    except postgres.Unavailable as reason:
        return f"postgres: a container of postgres:18, if Docker runs ({reason})"
    account = postgres_binaries.account()
    return f"postgres: private, binaries of {package}, run as {account.pw_name if account else 'ourselves'}"


@contextmanager
def reachable_directory(within: Path | None = None) -> Iterator[Path]:
    """Make a temporary directory that PostgreSQL's user may enter also when we are root; remove it after."""
    directory = Path(tempfile.mkdtemp(prefix="webhook-inbox-", dir=within))
    try:
        directory.chmod(0o711)
        yield directory
    finally:
        shutil.rmtree(directory)


def memory() -> Path | None:
    """Return a directory in memory, where there is one with room: no commit waits for a disk that others use, too."""
    with suppress(OSError):
        found = os.statvfs(MEMORY)
        if found.f_bavail * found.f_frsize >= ROOM and not found.f_flag & os.ST_NOEXEC:
            return MEMORY
    return None


@contextmanager
def private_server() -> Iterator[str]:
    with ExitStack() as stack:
        # Nobody cuts this one's power; the tests that cut some have servers of their own.
        directory = stack.enter_context(reachable_directory(memory()))
        try:
            server = stack.enter_context(postgres.start(directory / "data"))
        except postgres.Unavailable as reason:
            raise NoServer(str(reason)) from reason
        yield server.dsn


@contextmanager
def container() -> Iterator[str]:
    try:
        # Not above: they take half a second that only those without the wheel need to wait.
        from docker.errors import DockerException  # noqa: PLC0415
        from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415
    except ImportError as reason:
        raise NoServer(f"no testcontainers: {reason}") from reason
    closed = ""
    with ExitStack() as stack:
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):
            try:
                running = stack.enter_context(PostgresContainer("postgres:18", driver=None))
            except DockerException as reason:
                closed = f"no Docker: {reason}"
            gc.collect()  # a client that finds no daemon leaves its socket to the collector
        if closed:
            raise NoServer(closed)
        yield running.get_connection_url()


@pytest.fixture(scope="session")
def server_dsn():
    """Connection string of a superuser, or at least of one who may create databases."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield url
        return
    reasons = []
    with ExitStack() as stack:
        for way in (private_server, container):
            try:
                dsn = stack.enter_context(way())
            except NoServer as reason:
                reasons.append(str(reason))
            else:
                yield dsn
                return
    answer = f"no PostgreSQL to test on: {'; '.join(['TEST_DATABASE_URL is not set', *reasons])}"
    if os.environ.get("CI"):
        pytest.exit(answer, returncode=1)
    pytest.skip(answer)


def database_dsn(server_dsn: str, database: str) -> str:
    """Return the connection string of another database on the same server."""
    return make_conninfo(server_dsn, dbname=database)


@contextmanager
def created_database(server_dsn: str, name: str, template: str = "template0") -> Iterator[str]:
    def execute(statement: str) -> None:
        with psycopg.connect(server_dsn, autocommit=True) as admin:
            admin.execute(sql.SQL(statement).format(sql.Identifier(name), sql.Identifier(template)))

    execute("CREATE DATABASE {0} TEMPLATE {1}")
    try:
        yield database_dsn(server_dsn, name)
    finally:
        execute("DROP DATABASE IF EXISTS {0} WITH (FORCE)")


@pytest.fixture(scope="session")
def template(server_dsn):
    """Name of a database with our schema, to copy."""
    name = f"inbox_template_{os.getpid()}"
    with created_database(server_dsn, name) as dsn:
        with psycopg.connect(dsn, autocommit=True) as conn:
            migrations.migrate(conn)
        yield name


@pytest.fixture(scope="session")
def session_database(server_dsn, template):
    with created_database(server_dsn, PREFIX, template) as dsn:
        yield dsn


@pytest.fixture
def dsn(session_database):
    """Database with our schema and no rows, ids counting from 1; its schema is the next test's too."""
    empty(session_database)
    return session_database


@pytest.fixture
def fresh_dsn(server_dsn, template):
    """Database with our schema for this test alone, which may alter it."""
    with created_database(server_dsn, f"{PREFIX}_{next(NUMBERS)}", template) as dsn:
        yield dsn


@pytest.fixture
def empty_dsn(server_dsn):
    """Database for this test alone, without our schema."""
    with created_database(server_dsn, f"{PREFIX}_{next(NUMBERS)}") as dsn:
        yield dsn


@pytest.fixture
def db(dsn):
    """Connection to ``dsn`` in autocommit mode; rows are tuples."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        yield conn


def empty(dsn: str) -> None:
    """Truncate every table but that of the migrations; who still holds a lock after 2 s is disconnected."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        tables = [sql.Identifier(*names) for names in conn.execute(TABLES, [KEPT_TABLE])]
        truncate = sql.SQL("TRUNCATE {} RESTART IDENTITY CASCADE").format(sql.SQL(", ").join(tables))
        conn.execute("SET lock_timeout = '2s'")
        try:
            conn.execute(truncate)
        except errors.LockNotAvailable:
            conn.execute(END_OTHERS)
            conn.execute(truncate)
