"""Where the benchmarks run: the server of DATABASE_URL, or a private PostgreSQL; and whether a receiver is up."""

import http.client
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from processor import postgres
from sql import database as address

WAL = 400_000_000  # bytes


@contextmanager
def server() -> Iterator[str]:
    """Yield the DSN of DATABASE_URL, or of a private server that is gone afterwards."""
    if os.environ.get("DATABASE_URL", "").strip():
        yield address.dsn(os.environ, "inbox-benchmark")
        return
    with tempfile.TemporaryDirectory(prefix="webhook-inbox-") as directory:
        Path(directory).chmod(0o711)  # PostgreSQL's user, who isn't root, gets through
        with postgres.start(Path(directory) / "db") as running:
            _grow_wal(running.dsn)
            yield running.dsn


def _grow_wal(dsn: str) -> None:
    """Have the WAL's files that a server has which has run for a while.

    A new one makes each 16 MB of it when they are needed, and nobody commits for those 50 ms.
    """
    with psycopg.connect(dsn, autocommit=True) as conn:
        write = "SELECT pg_logical_emit_message(false, 'benchmark', repeat('x', 8000000)) FROM generate_series(1, %s)"
        for _ in range(2):  # the first is what the second's checkpoint expects to come again
            conn.execute(write, [WAL // 8_000_000])
            conn.execute("CHECKPOINT")


@contextmanager
def database() -> Iterator[str]:
    """Yield the DSN of an empty database on that server, whose user may create one; it is dropped afterwards."""
    with server() as dsn, empty_database(dsn) as own:
        yield own


@contextmanager
def empty_database(dsn: str) -> Iterator[str]:
    """Yield the DSN of an empty database beside that of *dsn*; it is dropped afterwards."""
    name = f"inbox_benchmark_{os.getpid()}"
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield make_conninfo(dsn, dbname=name)
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def url(dsn: str) -> str:
    """Return a connection string as the URL that other drivers than libpq's want."""
    given = {name: quote(str(value), safe="") for name, value in conninfo_to_dict(dsn).items()}
    user = ":".join(given[name] for name in ("user", "password") if name in given)
    place = f"{given.get('host', 'localhost')}:{given.get('port', '5432')}"
    return f"postgresql://{user + '@' if user else ''}{place}/{given['dbname']}"


def answers(port: int) -> bool:
    """Tell whether the receiver there is ready to store."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
