"""Each program under the login that docs/operate.md has made for it: it does its work, and can do little else."""

import os
import re
from pathlib import Path

import psycopg
import pytest
from psycopg import errors
from psycopg.conninfo import make_conninfo

import sql as statements
from receiver.settings import from_environ
from tests.commands import lines, runner
from tests.conftest import created_database, empty
from tests.http_receiver import Receiver
from tests.inbox import add
from tests.processes import agent_event, free_port, post, processor, receiver, wait_for
from tests.receiver_fixtures import AGENT_SECRET
from tests.signing import reminder
from tests.test_schema import EVENT, NAMES

PAGE = (Path(__file__).parents[1] / "docs" / "operate.md").read_text()
PREFIX = f"inbox{os.getpid()}"  # a server has one set of roles for all its databases
LOGINS = ("receiver", "processor", "pruner")


@pytest.fixture(scope="module")
def database(server_dsn, template):
    """Connection string of a database whose owner has made the logins as the page says."""
    (block,) = re.findall(r"^```sql\n(CREATE ROLE .*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    with (
        created_database(server_dsn, f"{PREFIX}_roles", template) as dsn,
        psycopg.connect(dsn, autocommit=True) as conn,
    ):
        conn.execute(runner(dsn)("db", "sql", "--grants").stdout.encode())
        conn.execute(block.replace("inbox_", f"{PREFIX}_").encode())
        for name in LOGINS:
            conn.execute(f"ALTER ROLE {PREFIX}_{name} PASSWORD 'secret'".encode())
        yield dsn
        for name in LOGINS:
            conn.execute(f"DROP OWNED BY {PREFIX}_{name}; DROP ROLE {PREFIX}_{name}".encode())


@pytest.fixture
def owner(database):
    """Connection of the tables' owner, to tables without rows."""
    empty(database)
    with psycopg.connect(database, autocommit=True) as conn:
        yield conn


@pytest.fixture
def login(owner, database):
    """Function that returns the connection string of a login."""
    return lambda name: make_conninfo(database, user=f"{PREFIX}_{name}", password="secret")


def test_a_delivery_is_stored_handled_and_pruned_by_three_logins(owner, login):
    port = free_port()
    body, headers = agent_event("1", reminder_id="rem_1")
    owner.execute("INSERT INTO reminders (reminder_id, status) VALUES ('rem_1', 'in_progress')")

    with receiver(login("receiver"), port):
        assert [post(port, body, headers) for _ in range(2)] == [200, 200]
        assert post(port, body, {}) == 401
    with processor(login("processor"), "--interval", "0.2", "--workers", "2"):
        wait_for(lambda: owner.execute("SELECT 1 FROM webhook_events WHERE outcome = 'handled'").fetchone())
    owner.execute(
        "UPDATE webhook_events SET received_at = '2026-01-01', processed_at = '2026-01-01', outcome = 'handled'"
    )
    done = runner(login("pruner"))("db", "prune", "--older-than", "1d", "--json")

    assert (done.returncode, lines(done)[0]["events"] >= 1) == (0, True)
    assert owner.execute("SELECT count(*) FROM webhook_events").fetchone() == (0,)


def test_refusals_are_counted_and_listed_by_the_receivers_login(owner, login):
    running = Receiver(from_environ({"DATABASE_URL": login("receiver"), "WEBHOOK_SECRET": AGENT_SECRET}))
    try:
        assert reminder(1).to(running, x_webhook_signature="0").status == 401
    finally:
        running.stop()  # which writes what was counted

    listed = lines(runner(login("receiver"), "receiver")("refusals", "--json"))

    assert [(row["source"], row["refused"]) for row in listed] == [("agent", 1)]


def test_an_operator_has_what_the_processors_login_has(owner, login):
    run = runner(login("processor"))
    commands = (
        "status --totals", "events list", "events show 1", "dead groups", "replay --state dead --yes", "skip 1 --yes",
        "pause source=twilio", "resume source=twilio", "actions", "run --once",
    )  # fmt: skip
    add(owner, dead_at="2026-01-01", last_error="x")

    assert {command: run(*command.split()).returncode for command in commands} == dict.fromkeys(commands, 0)


@pytest.mark.parametrize("command", ["processor", "receiver"])
def test_its_own_login_is_no_fault_to_a_doctor(command, owner, login):
    done = runner(login(command), command)("doctor", WEBHOOK_SECRET=AGENT_SECRET)

    assert [line for line in done.stdout.splitlines() if "FAIL" in line] == []


def test_a_temporary_table_of_the_session_takes_no_event(owner, login):
    event = {name: NAMES.get(name, "text") for name in EVENT}
    with psycopg.connect(login("receiver"), autocommit=True) as conn:
        conn.execute("CREATE TEMPORARY TABLE webhook_events (id bigint)")
        conn.execute(statements.load("insert_event"), event)

    assert owner.execute("SELECT event_id FROM webhook_events").fetchall() == [("text",)]


def test_a_clock_of_another_schema_is_not_asked(owner, login):
    for clock in ("now", "clock_timestamp"):
        owner.execute(
            f"CREATE FUNCTION public.{clock}() RETURNS timestamptz LANGUAGE sql AS 'SELECT NULL::timestamptz'".encode()
        )
    add(owner, "unheard.of")
    try:
        assert runner(login("processor"))("run", "--once").returncode == 0
    finally:
        owner.execute("DROP FUNCTION public.now(), public.clock_timestamp()")

    assert owner.execute(
        "SELECT processed_at > pg_catalog.now() - interval '1 hour' FROM webhook_events"
    ).fetchall() == [(True,)]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE FUNCTION public.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT NULL::timestamptz'",
        "CREATE TABLE public.mine ()",
        "ALTER SYSTEM SET fsync = off",
        "ALTER ROLE CURRENT_USER CREATEROLE",
        "SET ROLE pg_read_server_files",
        "DROP TABLE webhook_events",
        "GRANT webhook_pruner TO CURRENT_USER",
    ],
)
def test_no_login_can_put_anything_beside_ours_or_take_more_rights(statement, owner, login):
    for name in LOGINS:
        with psycopg.connect(login(name), autocommit=True) as conn, pytest.raises(errors.InsufficientPrivilege):
            conn.execute(statement)
