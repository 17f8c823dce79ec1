"""What PostgreSQL takes without a receiver: pgbench with the receiver's row, a commit each."""

import shutil
import subprocess
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.json import Jsonb

from benchmarks.doors import rows
from benchmarks.prepared import FIELDS, PATH, SMALL
from benchmarks.rounds import Measures, Missing
from processor import migrations, postgres_binaries

INSERT = """
    INSERT INTO webhook_events (source, provider, event_id, event_type, subject, method, url, headers, payload, body)
    VALUES ('twilio', 'twilio', md5(:call::text) || ':' || :turn, 'call.ringing', md5(:call::text), 'POST', {url},
            {headers}::jsonb, {payload}::jsonb, {body})
    ON CONFLICT (source, event_id) DO NOTHING;
"""


# Six events of each call, as providers send: their keys begin alike. The calls' are random.
CALL = """\\set turn (:turn + 1) % 6
\\if :turn = 1
\\set call random(1, 9223372036854775807)
\\endif
"""


def program() -> str:
    """Return the wheel's pgbench, else that of the PATH; raise Missing without one."""
    try:
        own = postgres_binaries.package() / postgres_binaries.INSTALLATION / "bin" / "pgbench"
    except postgres_binaries.Unavailable:
        own = Path()
    found = str(own) if own.is_file() else shutil.which("pgbench")
    if not found:
        raise Missing("no pgbench; it comes with PostgreSQL")
    return found


def inserts(dsn: str, directory: Path, connections: int, seconds: float) -> Measures:
    """Return the rate of single INSERTs of an event with a body of 1 KB, over so many connections."""
    command, stored = program(), rows(dsn, "webhook_events")
    with psycopg.connect(dsn, autocommit=True) as conn:
        migrations.migrate(conn)
        values = {
            "url": PATH, "headers": '{"content-type" : "application/x-www-form-urlencoded"}',
            "payload": Jsonb({**FIELDS, "pad": "x" * 500}), "body": b"x" * SMALL,
        }  # fmt: skip
        statement = sql.SQL(INSERT).format(**{name: sql.Literal(value) for name, value in values.items()})
        script = directory / "insert.sql"
        script.write_text(CALL + one_line(statement.as_string(conn)))
    before = stored()
    given = {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
    done = subprocess.run(
        [command, "-n", "-M", "prepared", "-c", str(connections), "-j", "1", "-T", str(max(1, round(seconds))),
         "-D", "turn=0", "-D", "call=0", "-f", script,
         "-h", given["host"], "-p", given.get("port", "5432"), "-U", given["user"], given["dbname"]],
        env={"PGPASSWORD": given.get("password", "")}, capture_output=True, text=True, check=True, timeout=seconds + 60,
    )  # fmt: skip
    told = dict(line.split(" = ", 1) for line in done.stdout.splitlines() if " = " in line)
    sent = next(line for line in done.stdout.splitlines() if line.startswith("number of transactions actually"))
    expected, got = int(sent.rpartition(": ")[2]), stored() - before
    if got != expected:
        raise SystemExit(f"error: pgbench: expected {expected} rows, got {got}")
    return {"req/s": float(told["tps"].split()[0])}


def one_line(statement: str) -> str:
    """Return it as pgbench's -M prepared takes it."""
    return " ".join(statement.split()) + "\n"
