"""A campaign's calls over HTTP, some deliveries late and some twice, and what became of them beside the run in order.

    python -m benchmarks.campaign [--calls 2000] [--workers 4]

Each run has a database, a receiver and a processor of its own. The first gets the deliveries in disorder and has
--workers workers; the second, beside it, gets each once, in order, and has one. Then the tables of both are compared,
and the exit code is 1 unless all came out as it must. DATABASE_URL: a server whose user may create databases; without
it a private PostgreSQL is started.
"""

import http.client
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import click
import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from benchmarks.campaign_plan import BASE_URL, CAMPAIGN, TOKEN, Delivery, Plan
from benchmarks.server import answers as ready
from benchmarks.server import server
from processor import migrations, postgres
from processor.children import ended_with_us

SENDERS = 8
POLL = 0.05  # seconds
DEADLINE = 60.0  # seconds, until a receiver is ready

# Each change of a campaign's status, and each dialogue that was begun, whatever becomes of its row.
NOTES = """
    CREATE TABLE noted (what text);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN INSERT INTO noted VALUES (TG_ARGV[0]); RETURN NULL; END';
    CREATE TRIGGER note_status AFTER UPDATE OF status ON campaigns FOR EACH ROW
        WHEN (NEW.status <> OLD.status) EXECUTE FUNCTION note('status');
    CREATE TRIGGER note_dialogue AFTER INSERT OR DELETE ON dialogues FOR EACH ROW EXECUTE FUNCTION note('dialogue');
"""
PLACE = """
    INSERT INTO calls (provider, call_id, campaign_id, direction)
    SELECT 'twilio', 'CA' || lpad(to_hex(n), 32, '0'), %(campaign)s, 'outbound'
      FROM generate_series(0, %(calls)s - 1) AS n
"""
WAITING = "SELECT count(*) FROM webhook_events WHERE processed_at IS NULL AND dead_at IS NULL"
OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
FIGURES = {
    "events stored": "SELECT count(*) FROM webhook_events WHERE source <> 'inbox'",
    "duplicates told apart": "SELECT count(*) FROM webhook_duplicates",
    "dead letters": "SELECT count(*) FROM webhook_events WHERE dead_at IS NOT NULL",
    "failed attempts": "SELECT count(*) FROM webhook_attempts",
    "deadlocks": "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()",
    "calls ended": "SELECT count(*) FROM calls WHERE call_ended(state)",
    "calls still expected to end": "SELECT count(*) FROM webhook_expectations",
    "dialogues started": "SELECT count(*) FROM noted WHERE what = 'dialogue'",
    "campaign completed, times": "SELECT count(*) FROM noted WHERE what = 'status'",
}
# What is the inbox's own differs: ids of events, and when they were received and written.
OURS = "{webhook_event_id,id,created_at,updated_at,recorded_at,received_at}"
TABLES = {
    "calls": "calls",
    "call_attempts": "call_attempts",
    "contacts": "contacts",
    "dialogues": "dialogues",
    "campaign_progress": "campaign_progress",
    # In which order its lines came, and so what each changed, differs too.
    "call_events": "(SELECT provider, call_id, event_type, state, occurred_at, details FROM call_events)",
}


@dataclass(frozen=True)
class Report:
    """Name, expected and got, a row each; how long the two runs took."""

    rows: list[tuple[str, int, int]]
    seconds: tuple[float, float]

    @property
    def passed(self) -> bool:
        """Tell whether everything came as expected."""
        return all(expected == got for _, expected, got in self.rows)

    def __str__(self) -> str:
        lines = [f"{'':40}{'expected':>10}{'got':>10}"]
        for name, expected, got in self.rows:
            lines.append(f"{name:40}{expected:>10,}{got:>10,}{'' if expected == got else '   <- WRONG'}")
        verdict = "passed" if self.passed else "FAILED"
        return "\n".join([*lines, f"{verdict}: in disorder {self.seconds[0]:.0f} s, in order {self.seconds[1]:.0f} s"])


def run(plan: Plan, disordered: str, ordered: str) -> Report:
    """Play the campaign in two empty databases, DSNs each, and account for it."""
    with ThreadPoolExecutor(2) as runs:
        first = runs.submit(play, plan, disordered, plan.disordered, plan.workers)
        second = runs.submit(play, plan, ordered, plan.deliveries, 1)
    answers, rows, seconds = first.result()
    _, _, in_order = second.result()
    expected = {
        "events stored": len(plan.deliveries),
        "duplicates told apart": len(plan.disordered) - len(plan.deliveries),
        "calls ended": plan.calls,
        "dialogues started": plan.ends.count("completed"),
        "campaign completed, times": 1,
    }
    table = [("answered 200", len(plan.disordered), answers[200])]
    table += [(name, expected.get(name, 0), rows[name]) for name in FIGURES]
    table.append((f"left after {plan.seconds:g} s", 0, rows["left"]))
    for name in TABLES:
        one, other = final(disordered, name), final(ordered, name)
        table.append((f"rows of {name}", other.total(), one.total()))
        table.append(("  unlike those of the run in order", 0, ((one - other) + (other - one)).total()))
    return Report(table, (seconds, in_order))


def play(plan: Plan, dsn: str, deliveries: list[Delivery], workers: int) -> tuple[Counter[int], dict[str, int], float]:
    """Send them to a receiver, have them processed; return the answers by status, the figures, and the seconds."""
    port, began = postgres.free_port([0]), time.monotonic()
    with psycopg.connect(dsn, autocommit=True) as conn:
        migrations.migrate(conn)
        conn.execute(NOTES)
        conn.execute("INSERT INTO campaigns (campaign_id, name) VALUES (%s, 'Spring')", [CAMPAIGN])
        conn.execute(PLACE.encode(), {"campaign": CAMPAIGN, "calls": plan.calls})
        with ExitStack() as stack:
            stack.enter_context(command(dsn, "receiver", "run", "--port", str(port)))
            stack.enter_context(command(dsn, "processor", "run", "--workers", str(workers), "--interval", "0.5"))
            wait_until(lambda: ready(port), began + DEADLINE)
            answers = send(deliveries, port)
            wait_until(lambda: number(conn, WAITING) == 0, began + plan.seconds)
        seconds = time.monotonic() - began
        # Their backends tell of deadlocks when they end.
        wait_until(lambda: number(conn, OTHERS) == 0, time.monotonic() + DEADLINE)
        figures = {name: number(conn, query) for name, query in FIGURES.items()}
        return answers, {**figures, "left": number(conn, WAITING)}, seconds


def send(deliveries: list[Delivery], port: int) -> Counter[int]:
    """Send them, a call's always on the same connection and in the order given; return the answers by status."""

    def send_some(place: int) -> Counter[int]:
        answers, connection = Counter[int](), http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        for one in deliveries:
            if one.call % SENDERS == place:
                connection.request("POST", one.target, one.body, one.headers)
                response = connection.getresponse()
                response.read()
                answers[response.status] += 1
        connection.close()
        return answers

    with ThreadPoolExecutor(SENDERS) as senders:
        return sum(senders.map(send_some, range(SENDERS)), Counter[int]())


def final(dsn: str, name: str) -> Counter[str]:
    """Return a table's rows, less what is the inbox's own."""
    query = f"SELECT (to_jsonb(found) - '{OURS}'::text[])::text FROM {TABLES[name]} AS found"
    with psycopg.connect(dsn) as conn:
        return Counter(row for (row,) in conn.execute(query.encode()))


def number(conn: psycopg.Connection, query: str) -> int:
    """Return the one number that a query has for an answer."""
    (found,) = conn.execute(query.encode()).fetchone() or (0,)
    return int(found)


@contextmanager
def command(dsn: str, *arguments: str) -> Iterator[None]:
    """Run a command of ours; its warnings go to our stderr."""
    ours = {"DATABASE_URL": dsn, "LOG_LEVEL": "WARNING", "TWILIO_AUTH_TOKEN": TOKEN, "BASE_URL": BASE_URL,
            "SPOOL_DIR": "off"}  # fmt: skip
    others = ("WEBHOOK_SOURCES", "HANDLERS", "DIALOGUE_URL", "IGNORE_UNKNOWN_CALLS")
    environ = {name: value for name, value in os.environ.items() if name not in others} | ours
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments], env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        **ended_with_us(signal.SIGKILL),
    )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def wait_until(true: Callable[[], bool], until: float) -> None:
    """Wait until *true()*, or the time is up."""
    while not true() and time.monotonic() < until:
        time.sleep(POLL)


@contextmanager
def databases(dsn: str) -> Iterator[list[str]]:
    """Make two empty databases, and remove them after."""
    names = [f"inbox_campaign_{os.getpid()}_{which}" for which in ("disordered", "ordered")]
    with psycopg.connect(dsn, autocommit=True) as admin:
        try:
            for name in names:
                admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            yield [make_conninfo(dsn, dbname=name) for name in names]
        finally:
            for name in names:
                admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@click.command(help=(__doc__ or "").partition("\n")[0])
@click.option("--calls", type=click.IntRange(min=1), default=Plan.calls, show_default=True)
@click.option("--workers", type=click.IntRange(1, 64), default=Plan.workers, show_default=True)
@click.option("--seed", type=int, default=Plan.seed, show_default=True)
@click.option(
    "--seconds", type=click.FloatRange(min=1), default=Plan.seconds, show_default=True, help="A run, at most."
)
def main(**options: Any) -> None:
    """Play the campaign, and print one table."""
    plan = Plan(**options)
    with server() as dsn, databases(dsn) as (disordered, ordered):
        report = run(plan, disordered, ordered)
    click.echo(f"{plan}\n{report}")
    sys.exit(0 if report.passed else 1)


if __name__ == "__main__":
    main()
