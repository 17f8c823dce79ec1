"""How many events a receiver's spool holds, by its own word or by its files."""

import http.client
import json
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path


def waiting(port: int) -> int | None:
    """Return what /readyz says; None: it says nothing of a spool."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/readyz")
        spool = json.loads(connection.getresponse().read()).get("spool", {})
    except OSError:
        return None
    finally:
        connection.close()
    found = spool.get("deliveries")
    return None if found is None else int(found)


def on_disk(directory: Path) -> int:
    """Return what a copy of the files holds, so that their receiver finds them as they were; it must not run."""
    with tempfile.TemporaryDirectory() as copy:
        found = 0
        for file in directory.glob("slot-*.db*"):
            shutil.copy(file, copy)
        for path in Path(copy).glob("slot-*.db"):
            with closing(sqlite3.connect(path)) as conn:
                if conn.execute("SELECT count(*) FROM sqlite_master WHERE name = 'records'").fetchone() == (1,):
                    found += int(conn.execute("SELECT count(*) FROM records").fetchone()[0])
        return found
