"""Forward-only migrations: the files of ``sql/migrations``, each applied once, in the order of their numbers."""

import logging
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from importlib.resources import files

from psycopg import Connection, errors
from psycopg.rows import class_row, scalar_row

log = logging.getLogger("processor")

LOCK_SECONDS = 1
TRIES = 60  # to get the locks: two minutes
# One application-wide advisory lock: two machines that deploy at once migrate one after the other.
LOCK = 0x776869  # "whi"
TABLE = (
    "CREATE TABLE webhook_migrations (version integer PRIMARY KEY, name text NOT NULL,"
    " digest text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
)
FILE = re.compile(r"(\d{4})_(\w+)\.sql")


@dataclass(frozen=True)
class Migration:
    """One file: version 1, 2, ..., its name, and its statements."""

    version: int
    name: str
    statements: str

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the file, to notice one that was edited after it was applied."""
        return sha256(self.statements.encode()).hexdigest()

    @property
    def note(self) -> str:
        """The statement that records it; name and digest are letters, digits and underscores."""
        values = f"{self.version}, '{self.name}', '{self.digest}'"
        return f"INSERT INTO webhook_migrations (version, name, digest) VALUES ({values})"  # noqa: S608


@dataclass(frozen=True)
class Status:
    """A migration as one database sees it; applied_at is None while it is pending."""

    version: int
    name: str
    applied_at: datetime | None
    changed: bool


@dataclass(frozen=True)
class Applied:
    """A row of webhook_migrations."""

    version: int
    applied_at: datetime
    digest: str


def all_migrations() -> list[Migration]:
    """Return every migration that ships with this version, lowest first."""

    def found() -> Iterator[Migration]:
        for file in files("sql.migrations").iterdir():
            if match := FILE.fullmatch(file.name):
                yield Migration(int(match[1]), match[2], file.read_text(encoding="utf-8"))

    return sorted(found(), key=lambda migration: migration.version)


def migrate(conn: Connection, tries: int = TRIES) -> list[str]:
    """Apply what is pending, in one transaction, and return its names; another machine's run is waited for.

    *conn* must be in autocommit mode. Commits everything or, when a statement fails, nothing. Who waits for a table's
    lock holds up everybody who comes after, deliveries too: so it waits for LOCK_SECONDS at a time, and raises
    LockNotAvailable after so many *tries*.
    """
    for _ in range(tries - 1):
        try:
            return _migrate(conn)
        except errors.LockNotAvailable:
            log.warning("migration waits for an older transaction; `processor doctor` names it")
            time.sleep(LOCK_SECONDS)
    return _migrate(conn)


def _migrate(conn: Connection) -> list[str]:
    with conn.transaction():
        conn.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        conn.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
        done: list[int] = []
        if _exists(conn):  # a role without CREATE may look whether all is well
            done = conn.cursor(row_factory=scalar_row).execute("SELECT version FROM webhook_migrations").fetchall()
        else:
            conn.execute(TABLE)
        pending = [migration for migration in all_migrations() if migration.version not in done]
        for migration in pending:
            conn.execute(migration.statements.encode())
            conn.execute(migration.note.encode())
    return [f"{migration.version:04} {migration.name}" for migration in pending]


def script() -> str:
    """Return all of them as one SQL script for an empty database, which knows afterwards what it holds."""
    parts = [f"-- {one.version:04} {one.name}\n{one.statements}\n{one.note};\n" for one in all_migrations()]
    return "\n".join([f"BEGIN;\n{TABLE};\n", *parts, "COMMIT;"])


def status(conn: Connection) -> list[Status]:
    """Return each migration and when it was applied here; on an empty database, all pending."""
    applied: dict[int, Applied] = {}
    if _exists(conn):
        rows = conn.cursor(row_factory=class_row(Applied)).execute(
            "SELECT version, applied_at, digest FROM webhook_migrations"
        )
        applied = {row.version: row for row in rows}

    def state(migration: Migration) -> Status:
        row = applied.get(migration.version)
        return Status(
            migration.version,
            migration.name,
            row.applied_at if row else None,
            changed=row is not None and row.digest != migration.digest,
        )

    return [state(migration) for migration in all_migrations()]


def _exists(conn: Connection) -> bool:
    row = conn.execute("SELECT to_regclass('webhook_migrations') IS NOT NULL").fetchone()
    return row == (True,)
