"""What a doctor finds out about the database, for both processes: one finding a line, each fault with its fix.

It stands in this room because it is the only one both may import.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.rows import dict_row, scalar_row

from sql import database, load
from sql.log import printable

OK, WARN, FAIL = "ok", "warn", "FAIL"
FAILED = 4  # a doctor's exit code after a FAIL
OLDEST = 140000  # the first server version with everything our statements use
SKEW_WARN, SKEW_FAIL = 2.0, 60.0  # seconds between this machine's clock and the database's
SNAPSHOT = timedelta(minutes=5)  # a transaction older than that is told
DEAD_ROWS = 100_000  # beside a fifth of the table: fewer are no matter

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    """One fact: level is ok, warn or FAIL; fix: what to do, "" where there is nothing to."""

    level: str
    check: str
    found: str
    fix: str = ""


def report(findings: Iterable[Finding], echo: Callable[[str], None], *, as_json: bool) -> int:
    """Print each finding as it is made; return the exit code: 0, or FAILED after a FAIL."""
    code = 0
    for one in findings:
        fix = f"; {one.fix}" if one.fix else ""
        line = json.dumps(asdict(one)) if as_json else printable(f"{one.level:<5} {one.check:<19} {one.found}{fix}")
        echo(line)
        code = FAILED if one.level == FAIL else code
    return code


def examine(environ: Mapping[str, str], application_name: str) -> Iterator[Finding]:
    """Yield what is found about the database of DATABASE_URL, from its address to its oldest transaction."""
    try:
        dsn = database.dsn(environ, application_name)
    except database.NoDatabase as error:
        yield Finding(FAIL, "DATABASE_URL", str(error))
        return
    yield Finding(OK, "DATABASE_URL", "is set and parses")
    try:
        with psycopg.connect(dsn, **database.CONNECT) as conn:
            began = time.monotonic()
            row = conn.cursor(row_factory=dict_row).execute(load("diagnose")).fetchone() or {}
            yield version(row)
            yield clock(row["now"], datetime.now(UTC), time.monotonic() - began)
            yield from durability(row)
            yield schema(conn)
            yield from upkeep(row)
            yield from snapshots(conn, sees_all=row["sees_all"])
    except psycopg.errors.InsufficientPrivilege as error:
        fix = "as the tables' owner: processor db sql --grants | psql"
        yield Finding(FAIL, "rights", str(error.diag.message_primary), fix)
    except psycopg.OperationalError as error:
        # libpq's text names host, port and user, never the password.
        text = " ".join(str(error).split())
        yield Finding(FAIL, "database", f"does not answer: {text}", "start it, or correct DATABASE_URL")


def version(row: Row) -> Finding:
    """Tell whether the server is one that our statements run on."""
    if row["version_num"] < OLDEST:
        return Finding(FAIL, "database", f"PostgreSQL {row['version']}", f"upgrade it to {OLDEST // 10000} or later")
    return Finding(OK, "database", f"answers, PostgreSQL {row['version']}")


def clock(theirs: datetime, ours: datetime, took: float) -> Finding:
    """Compare the database's clock with ours, read up to *took* seconds later."""
    skew = (ours - theirs).total_seconds()
    skew = 0.0 if 0 <= skew <= took else skew
    words = f"{abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} the database's"
    fix = "run an NTP client (chrony, systemd-timesyncd) on both; retries go by the database's clock, --since by ours"
    if abs(skew) > SKEW_FAIL:
        return Finding(FAIL, "clock", f"this machine's is {words}", fix)
    if abs(skew) > SKEW_WARN:
        return Finding(WARN, "clock", f"this machine's is {words}", fix)
    return Finding(OK, "clock", "as the database's")


def durability(row: Row) -> Iterator[Finding]:
    """Tell whether commits are taken, and what a power cut may take of them."""
    if row["read_only"]:
        fix = "point DATABASE_URL at the primary: ?target_session_attrs=read-write"
        yield Finding(FAIL, "writable", "no: a standby, or read-only by default", fix)
    if row["fsync"]:
        yield Finding(OK, "fsync", "on")
    else:
        yield Finding(FAIL, "fsync", "off: a power cut may lose or corrupt everything", "ALTER SYSTEM SET fsync = on")
    if row["synchronous_commit"] in ("off", "local"):
        found = f"{row['synchronous_commit']}; deliveries are stored durably all the same, other commits may be lost"
        yield Finding(WARN, "synchronous_commit", found, "ALTER DATABASE ... SET synchronous_commit = on")
    else:
        yield Finding(OK, "synchronous_commit", row["synchronous_commit"])
    if not row["full_page_writes"]:
        found = "off: a power cut may corrupt pages, unless the file system can't tear them"
        yield Finding(WARN, "full_page_writes", found, "ALTER SYSTEM SET full_page_writes = on")


def snapshots(conn: Connection, *, sees_all: bool) -> Iterator[Finding]:
    """Tell which transactions may keep dead rows in the tables."""
    fixes = {
        "session": "end it: SELECT pg_terminate_backend(pid), or run reports on a standby",
        "idle": "end it, and set idle_in_transaction_session_timeout for its role",
        "prepared": "COMMIT PREPARED or ROLLBACK PREPARED it",
        "slot": "drop it if nobody reads it: SELECT pg_drop_replication_slot(name)",
    }
    words = {"session": "transaction of", "idle": "idle in transaction:", "prepared": "prepared transaction",
             "slot": "replication slot"}  # fmt: skip
    found = conn.cursor(row_factory=dict_row).execute(load("old_snapshots"), {"age": SNAPSHOT}).fetchall()
    for row in found:
        since = f"{row['seconds'] / 60:.0f} min" if row["seconds"] is not None else f"{row['xids']} transactions"
        text = f"{words[row['kind']]} {row['name']}, for {since}: may keep dead rows from being vacuumed"
        yield Finding(WARN, "old snapshots", text, fixes[row["kind"]])
    if not sees_all:
        fix = "GRANT pg_read_all_stats TO this role"
        yield Finding(WARN, "old snapshots", "this role can't see how old other users' transactions are", fix)
    elif not found:
        yield Finding(OK, "old snapshots", f"none older than {SNAPSHOT.total_seconds() / 60:.0f} min")


def schema(conn: Connection) -> Finding:
    """Tell whether the tables are those of this version."""
    newest = max(int(file.name[:4]) for file in files("sql.migrations").iterdir() if file.name.endswith(".sql"))
    try:
        here = conn.cursor(row_factory=scalar_row).execute(load("schema_version")).fetchone() or 0
    except psycopg.errors.UndefinedTable:
        here = 0
    if here < newest:
        return Finding(FAIL, "schema", f"version {here} of {newest}", "run `processor db migrate`")
    if here > newest:
        fix = "upgrade webhook-inbox on this machine"
        return Finding(FAIL, "schema", f"version {here}, of which this program knows {newest}", fix)
    return Finding(OK, "schema", f"version {here}")


def upkeep(row: Row) -> Iterator[Finding]:
    """Tell whether the tables are as they were made, and vacuumed."""
    if row["runs_unlogged"] is False:
        found = "webhook_runs is logged: each batch waits for the disk once more"
        yield Finding(WARN, "unlogged table", found, "ALTER TABLE webhook_runs SET UNLOGGED")
    if not row["autovacuum"]:
        fix = "ALTER SYSTEM SET autovacuum = on, and track_counts"
        yield Finding(FAIL, "autovacuum", "off: claims slow down as dead rows pile up", fix)
    elif row["table_autovacuum"] is False:
        fix = "ALTER TABLE webhook_events RESET (autovacuum_enabled)"
        yield Finding(FAIL, "autovacuum", "off for webhook_events: claims slow down as dead rows pile up", fix)
    else:
        yield Finding(OK, "autovacuum", "on")
    dead, live = row["dead_rows"] or 0, row["live_rows"] or 0
    if dead > DEAD_ROWS and dead > live / 5:
        found = f"{dead} in webhook_events, beside {live} live ones"
        yield Finding(WARN, "dead rows", found, "VACUUM webhook_events, and look for old snapshots")
    else:
        yield Finding(OK, "dead rows", f"{dead} in webhook_events, beside {live} live ones")
