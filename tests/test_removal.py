"""Removing a system is deleting its module in handlers/ and its migration: what is left works, and nothing fails.

The real commands run on reduced copies of both packages: Python finds those of its current directory first.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from receiver.delivery import Delivery
from tests.arrivals import form, identities, sample, sent

ROOT = Path(__file__).parents[1]
QUERY = "?campaign_id=camp_1&contact_id=contact_1&call_id=attempt_1"
# In one process: three quarters of a command's second are spent on being started.
PROGRAM = """
import contextlib, io, json, os, sys, psycopg
from processor.cli import cli

def command(*words):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        try:
            code = cli.main(words, standalone_mode=False)
        except SystemExit as end:
            code = end.code
    assert not code, (words, code)
    return said.getvalue()

statements, events = json.load(sys.stdin)
command("db", "migrate")
with psycopg.connect(os.environ["DATABASE_URL"]) as conn:
    conn.execute(command("db", "sql", "--grants"))
    for statement in statements:
        conn.execute(statement)
    for event in events:
        names, marks = ", ".join(event), ", ".join(["%s"] * len(event))
        conn.execute(f"INSERT INTO webhook_events ({names}) VALUES ({marks})", list(event.values()))
os.environ["PGOPTIONS"] = "-c role=webhook_processor"
command("run", "--once", "--handlers", "handlers")
print(command("handlers", "--json"), end="")
"""


@dataclass(frozen=True)
class System:
    """A system, and a short story of it: the deliveries, what must be there before, and the rows that come of it.

    takers: the systems that have handlers for these events; of Twilio's calls there are two.
    """

    migration: str
    provider: str
    deliveries: list[Delivery]
    takers: set[str]
    query: str
    rows: list[tuple[Any, ...]]
    before: str | None = None


def callback(call, status, query=""):
    return form({"CallSid": call, "CallStatus": status, "Direction": "outbound-api"}, f"/webhooks/x{query}")


SYSTEMS = {
    "surveys": System(
        "0011_surveys.sql", "twilio", [callback("CA1", "ringing", QUERY), callback("CA1", "no-answer", QUERY)],
        {"surveys", "call_log"},
        "SELECT call_id, outcome, contacts.state FROM call_attempts JOIN contacts USING (app_id, contact_id)",
        [("attempt_1", "NO_ANSWER", "NOT_REACHED")],
    ),
    "campaigns": System(
        "0012_campaigns.sql", "vapi",
        [sample("vapi", "vapi-status-in-progress"), sample("vapi", "vapi-end-of-call-report")],
        {"campaigns"},
        "SELECT calls.status, progress.status, progress.completed FROM vapi_calls AS calls"
        " JOIN campaign_progress AS progress USING (app_id, campaign_id)",
        [("ENDED", "COMPLETED", 1)],
    ),
    "call_log": System(
        "0013_call_log.sql", "twilio", [callback("CA2", "in-progress"), callback("CA2", "completed")],
        {"surveys", "call_log"},
        "SELECT state, answered_at IS NOT NULL FROM call_log WHERE call_id = 'CA2'",
        [("completed", True)],
    ),
    "cti": System(
        "0014_cti.sql", "dialpad",
        [sample("dialpad", "dialpad-connected"), sample("dialpad", "dialpad-hangup-answered")],
        {"cti"},
        "SELECT status, conversation_id FROM cti_calls",
        [("ended", "5314479320940544")],
    ),
    "reminders": System(
        "0015_reminders.sql", "agent",
        [sent({"reminder_id": "rem_1", "event_type": name}) for name in ("call_answered", "call_completed")],
        {"reminders"},
        "SELECT status FROM reminders",
        [("completed",)],
        "INSERT INTO reminders (reminder_id, status) VALUES ('rem_1', 'in_progress')",
    ),
}  # fmt: skip


def reduce(directory, kept):
    """Copy both packages without what belongs to the systems that aren't kept."""
    for package in ("handlers", "sql"):
        shutil.copytree(ROOT / package, directory / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, system in SYSTEMS.items():
        if name not in kept:
            (directory / "handlers" / f"{name}.py").unlink()
            (directory / "sql" / "migrations" / system.migration).unlink()


def rows_of(name):
    """Return a story's events as rows; those of Twilio tell no time, so their numbers make them different."""
    return [
        {
            "source": name, "provider": SYSTEMS[name].provider, "event_id": f"{name}-{number}", "url": delivery.url,
            "event_type": one.event_type, "provider_type": one.provider_type, "subject": one.subject,
            "payload": one.payload, "occurred_at": one.occurred_at and one.occurred_at.isoformat(),
        }
        for number, delivery in enumerate(SYSTEMS[name].deliveries)
        for one in identities(SYSTEMS[name].provider, delivery)
    ]  # fmt: skip


def play(dsn, directory, kept):
    """Play every system's story to what is left, and return the modules whose handlers were there."""
    reduce(directory, kept)
    statements = [SYSTEMS[name].before for name in kept if SYSTEMS[name].before]
    events = [row for name in SYSTEMS for row in rows_of(name)]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=directory, input=json.dumps([statements, events]),
        env={**os.environ, "DATABASE_URL": dsn}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {json.loads(line)["handler"].split(".")[1] for line in done.stdout.splitlines()}


def outcomes(kept):
    return {(name, "handled" if system.takers & kept else "no_handler") for name, system in SYSTEMS.items()}


@pytest.mark.parametrize(
    "kept",
    [*({name} for name in SYSTEMS), *(SYSTEMS.keys() - {name} for name in SYSTEMS)],
    ids=[*(f"only {name}" for name in SYSTEMS), *(f"all but {name}" for name in SYSTEMS)],
)
def test_what_is_left_of_the_systems_works_and_the_others_events_have_no_handler(empty_dsn, tmp_path, kept):
    modules = play(empty_dsn, tmp_path, kept)

    assert modules == {*kept, "calls"}
    with psycopg.connect(empty_dsn) as conn:
        for name in kept:
            assert conn.execute(SYSTEMS[name].query).fetchall() == SYSTEMS[name].rows, name
        found = conn.execute("SELECT source, outcome FROM webhook_events WHERE source <> 'inbox'").fetchall()
        assert set(found) == outcomes(kept)
        own = conn.execute("SELECT outcome FROM webhook_events WHERE source = 'inbox'").fetchall()
        assert set(own) <= {("handled",)}


def test_every_system_can_be_removed():
    shared = {
        "calls",
        "messages",
        "models",
        "progress",
        "rows",
        "agent_client",
        "post",
        "sending",
        "signing",
        "__init__",
    }
    modules = {path.stem for path in (ROOT / "handlers").glob("*.py")}

    assert modules - shared == set(SYSTEMS)
