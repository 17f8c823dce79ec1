"""The spool's SQLite file: its tables, and the settings with which what is committed is on the disk."""

import os
import sqlite3
from pathlib import Path

VERSION = 1  # of the file's tables
PAGE = 4096
SETTINGS = """
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA fullfsync = ON;
    PRAGMA secure_delete = ON;
"""
TABLES = f"""
    BEGIN;
    CREATE TABLE IF NOT EXISTS records (
        id INTEGER PRIMARY KEY AUTOINCREMENT, arrived_at REAL NOT NULL, tried INTEGER NOT NULL,
        fields BLOB NOT NULL, body BLOB NOT NULL, digest BLOB NOT NULL
    );
    CREATE TABLE IF NOT EXISTS rejected (
        id INTEGER PRIMARY KEY, arrived_at REAL NOT NULL, fields BLOB NOT NULL, body BLOB NOT NULL,
        digest BLOB NOT NULL, rejected_at REAL NOT NULL, reason TEXT NOT NULL
    );
    CREATE TABLE IF NOT EXISTS attempted (up_to INTEGER NOT NULL);
    PRAGMA user_version = {VERSION};
    COMMIT;
"""


class Malformed(sqlite3.DatabaseError):
    """SQLite can open the file, and finds it damaged."""


def connect(path: Path, max_bytes: int) -> sqlite3.Connection:
    """Open or make the file, for its owner alone. Raises sqlite3.Error, OSError; Malformed after a check."""
    # Made here, because SQLite gives its other files the mode of this one.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    conn = sqlite3.connect(path, isolation_level=None, timeout=1, check_same_thread=False)
    try:
        conn.executescript(SETTINGS)
        conn.execute(f"PRAGMA max_page_count = {max_bytes // PAGE}")
        _prepare(conn, path)
    except BaseException:
        conn.close()
        raise
    return conn


def _prepare(conn: sqlite3.Connection, path: Path) -> None:
    (version,) = conn.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise sqlite3.NotSupportedError(f"it is of version {version}; upgrade webhook-inbox")
    if version < VERSION:
        conn.executescript(TABLES)
        for directory in (path.parent, path.parent.parent):
            _sync(directory)
    (state,) = conn.execute("PRAGMA quick_check(1)").fetchone()
    if state != "ok":
        raise Malformed(state)


def _sync(directory: Path) -> None:
    """Have the names in a directory on the disk, too."""
    opened = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
