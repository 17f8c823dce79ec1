"""The table: what it refuses, how it is migrated, which plan each statement gets, who may do what."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.resources import files

import psycopg
import pytest
from psycopg import errors, sql

import sql as statements
from processor import migrations
from tests.conftest import PREFIX, created_database
from tests.inbox import add
from tests.processes import wait_for

# A value for each name a statement takes; types are what the receiver and the processor pass.
NAMES = {
    "ids": [1], "id": 1, "run_id": 1, "batch": 50, "most": 50, "attempt": 1, "newest": True, "counted": True,
    "wait": None, "sources": None, "types": None, "since": None, "until": None, "occurred_at": None, "body": b"{}",
    "headers": "{}", "payload": "{}", "parse_error": None, "state": None, "outcome": "handled",
    "shut_types": None, "shut_providers": None, "shut_sources": None, "after_at": "-infinity", "after_id": 0,
    "prefix": 20, "seconds": 0.1, "durations": [0.1], "versions": ["1"], "lease": 1, "ttl": "30 s", "failures": 20,
    "yields": None, "replays": [0],
    "after": 0, "dead_for": None, "backend": 1, "own_backend": 2,
    "within": "10 min", "before": "2026-01-01", "bodies_before": None, "bodies": False,
    "verb": "replay", "kind": "source", "chosen": "{}", "done": 1, "ended": True, "duration": None, "age": "5 min",
    "body_bytes": 2, "verified_by": None, "lock_timeout": "1s", "place": 0,
    "statuses": [401], "causes": ["no such source"], "counts": [1], "first_ages": [2.0], "last_ages": [1.0],
}  # fmt: skip
EVENT = (
    "app_id", "source", "provider", "event_id", "event_type", "provider_type", "subject", "method", "url",
    "headers", "body", "payload", "parse_error", "occurred_at", "age", "verified_by",
)  # fmt: skip
WAITS_FOR_A_TABLE = """
    SELECT count(*) FROM pg_locks JOIN pg_database AS database ON database.oid = pg_locks.database
     WHERE datname = current_database() AND locktype = 'relation' AND NOT granted
"""
STATEMENTS = sorted(
    file.name.removesuffix(".sql") for file in files(statements).iterdir() if file.name.endswith(".sql")
)


@pytest.mark.parametrize(
    "columns",
    [
        {"processed_at": "2026-01-01"},
        {"outcome": "handled"},
        {"outcome": "lost", "processed_at": "2026-01-01"},
        {"dead_at": "2026-01-01"},
        {"dead_at": "2026-01-01", "last_error": "x", "processed_at": "2026-01-01", "outcome": "handled"},
        {"attempts": -1},
        {"event_id": ""},
        {"event_id": "x" * 256},
        {"event_type": ""},
        {"source": ""},
        {"subject": ""},
        {"headers": "[]"},
        {"occurred_at": "0001-01-01 UTC"},
        {"occurred_at": "infinity"},
        {"received_at": "9999-12-31 UTC"},
        {"next_attempt_at": "infinity"},
    ],
)
def test_a_row_that_means_nothing_is_refused(db, columns):
    with pytest.raises(psycopg.errors.CheckViolation):
        add(db, **columns)


def test_a_payload_is_missing_only_with_a_reason(db):
    event = add(db)

    with pytest.raises(psycopg.errors.CheckViolation):
        db.execute("UPDATE webhook_events SET payload = NULL WHERE id = %s", [event])


def test_a_source_holds_an_event_id_once(db):
    add(db, event_id="1")
    add(db, event_id="1", source="other")

    with pytest.raises(psycopg.errors.UniqueViolation):
        add(db, event_id="1")


def test_migrating_an_empty_database_applies_everything_once(empty_dsn):
    with psycopg.connect(empty_dsn, autocommit=True) as conn:
        assert {state.applied_at for state in migrations.status(conn)} == {None}

        assert migrations.migrate(conn) == [
            "0001 webhook_events",
            "0002 calls_and_messages",
            "0003 order_and_crashes",
            "0004 attempts_and_pauses",
            "0005 claim",
            "0006 actions_and_retention",
            "0007 calls_and_their_log",
            "0008 expectations",
            "0009 claim_suspects",
            "0010 refusals",
            "0011 surveys",
            "0012 campaigns",
            "0013 call_log",
            "0014 cti",
            "0015 reminders",
            "0016 proofs_and_tombstones",
            "0017 quarantine",
            "0018 claim_by_age",
            "0019 insert_many",
            "0020 claim_without_statistics",
            "0021 complete_by_function",
        ]
        assert migrations.migrate(conn) == []
        assert all(state.applied_at and not state.changed for state in migrations.status(conn))


def test_what_version_0_1_wrote_is_as_old_as_it_was(empty_dsn, monkeypatch):
    shipped = migrations.all_migrations()
    with psycopg.connect(empty_dsn, autocommit=True) as conn:
        monkeypatch.setattr(migrations, "all_migrations", lambda: shipped[:6])
        migrations.migrate(conn)
        conn.execute("""
            INSERT INTO calls (app_id, provider, call_id, state, occurred_at, webhook_event_id, updated_at) VALUES
                ('default', 'twilio', 'CA1', 'completed', '2026-01-05 10:00Z', 1, '2026-01-05 11:00Z'),
                ('default', 'twilio', 'CA2', 'ringing', NULL, 2, '2026-01-05 11:00Z');
            INSERT INTO messages (app_id, provider, message_id, state, webhook_event_id, updated_at)
            VALUES ('default', 'twilio', 'SM1', 'sent', 3, '2026-01-05 12:00Z');
        """)
        monkeypatch.undo()
        migrations.migrate(conn)

        ten, eleven, twelve = (datetime(2026, 1, 5, hour, tzinfo=UTC) for hour in (10, 11, 12))
        log = conn.execute("SELECT call_id, started_at, ended_at FROM call_log ORDER BY call_id").fetchall()
        assert log == [("CA1", ten, ten), ("CA2", eleven, None)]
        assert conn.execute("SELECT created_at, updated_at FROM messages").fetchall() == [(twelve, twelve)]


def test_four_machines_that_migrate_at_once_apply_everything_once(empty_dsn):
    applied, start = [], threading.Barrier(4, timeout=10)

    def deploy():
        with psycopg.connect(empty_dsn, autocommit=True) as conn:
            start.wait()
            applied.extend(migrations.migrate(conn))

    machines = [threading.Thread(target=deploy) for _ in range(4)]
    for machine in machines:
        machine.start()
    for machine in machines:
        machine.join()

    assert sorted(applied) == [f"{one.version:04} {one.name}" for one in migrations.all_migrations()]


def test_a_role_that_may_create_nothing_can_see_that_all_is_applied(fresh_dsn):
    with psycopg.connect(fresh_dsn, autocommit=True) as conn:
        conn.execute(statements.load("grant_roles"))
        conn.execute("SET ROLE webhook_processor")

        assert migrations.migrate(conn) == []


def test_the_schema_as_a_script_is_known_to_be_applied(empty_dsn):
    with psycopg.connect(empty_dsn, autocommit=True) as conn:
        conn.execute(migrations.script().encode())

        assert migrations.migrate(conn) == []
        assert all(state.applied_at and not state.changed for state in migrations.status(conn))


@pytest.mark.parametrize(("setting", "during"), [("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")])
@pytest.mark.parametrize("name", ["insert_event", "insert_events", "insert_duplicate", "insert_duplicates"])
def test_a_delivery_is_committed_durably_whatever_the_setting(db, name, setting, during):
    add(db, source="text", event_id="text")
    event = {name: NAMES.get(name, "text") for name in (*EVENT, "place", "lock_timeout")}
    with db.transaction(force_rollback=True):
        db.execute(f"SET LOCAL synchronous_commit = {setting}".encode())
        db.execute(statements.load(name), event)

        assert db.execute("SHOW synchronous_commit").fetchone() == (during,)


def test_a_migration_that_waits_for_a_lock_lets_deliveries_pass_meanwhile(empty_dsn, monkeypatch):
    released, everything = migrations.all_migrations()[:15], migrations.all_migrations
    monkeypatch.setattr(migrations, "all_migrations", lambda: released)
    with psycopg.connect(empty_dsn, autocommit=True) as conn:
        migrations.migrate(conn)
        monkeypatch.setattr(migrations, "all_migrations", everything)
        with ThreadPoolExecutor() as pool, psycopg.connect(empty_dsn) as holder:
            holder.execute("SELECT FROM webhook_events")
            migrating = pool.submit(migrations.migrate, conn)
            with psycopg.connect(empty_dsn, autocommit=True) as delivering:
                wait_for(lambda: delivering.execute(WAITS_FOR_A_TABLE).fetchone() == (1,))
                delivering.execute("SET statement_timeout = '20 s'")  # it waits for one try of the migration: a second
                delivering.execute(
                    "INSERT INTO webhook_events (source, provider, event_id, event_type, payload)"
                    " VALUES ('agent', 'agent', '1', 'call.ringing', '{}')"
                )
            assert not migrating.done()
            holder.rollback()
            assert migrating.result()[0].startswith("0016")


def test_a_migration_that_never_gets_its_lock_gives_up_and_says_so(dsn):
    with psycopg.connect(dsn) as holder, psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("DELETE FROM webhook_migrations WHERE version = 16")
        holder.execute("SELECT FROM webhook_events")
        try:
            with pytest.raises(errors.LockNotAvailable):
                migrations.migrate(conn, tries=1)
        finally:
            digest = next(one for one in migrations.all_migrations() if one.version == 16)
            conn.execute(digest.note.encode())


@pytest.mark.parametrize("migration", migrations.all_migrations()[15:], ids=lambda one: one.name)
def test_no_later_migration_builds_an_index_of_the_events_or_rewrites_them(migration):
    """Deliveries would wait for it: one that has to be is built CONCURRENTLY, in no transaction."""
    assert not re.search(r"INDEX[^;]* ON webhook_events\b", migration.statements)
    assert not re.search(r"ALTER TABLE webhook_events\b[^;]*(TYPE|DEFAULT)", migration.statements)


def test_a_migration_edited_after_it_was_applied_is_told(fresh_dsn):
    with psycopg.connect(fresh_dsn, autocommit=True) as conn:
        conn.execute("UPDATE webhook_migrations SET digest = 'other' WHERE version = 1")

        assert [state.version for state in migrations.status(conn) if state.changed] == [1]


# A DO block and LISTEN have no plan; the tests of the roles and of the wake-up run them.
@pytest.mark.parametrize("name", [name for name in STATEMENTS if name not in ("grant_roles", "listen")])
def test_every_statement_is_planned_by_postgresql(db, name):
    assert explain(db, statements.load(name).decode())


def test_a_statement_says_what_goes_in_and_comes_out():
    for name in STATEMENTS:
        header = statements.load(name).decode().split("\n\n")[0]
        assert re.search(r"^-- in   ", header, re.MULTILINE), name
        assert re.search(r"^-- out  ", header, re.MULTILINE), name


def test_the_claim_reads_its_partial_index_in_order_behind_a_long_history(db):
    db.execute(
        "INSERT INTO webhook_events (source, provider, event_id, event_type, payload, processed_at, outcome)"
        " SELECT 'twilio', 'twilio', n, 'call.ringing', '{}', now(), 'handled' FROM generate_series(1, 20000) AS n"
    )
    db.execute(
        "INSERT INTO webhook_events (source, provider, event_id, event_type, payload)"
        " SELECT 'twilio', 'twilio', n, 'call.ringing', '{}' FROM generate_series(20001, 25000) AS n"
    )
    db.execute("ANALYZE webhook_events")

    with db.transaction(force_rollback=True):
        claimed = db.execute(statements.load("claim"), NAMES).fetchone()
        assert claimed is not None
        assert claimed[2] == list(range(20001, 20051))

        scans = "SELECT seq_scan, idx_tup_fetch < 2000 FROM pg_stat_xact_user_tables WHERE relname = 'webhook_events'"
        assert db.execute(scans).fetchone() == (0, True)


def test_dead_letters_are_counted_from_their_index(db):
    plan = explain(db, statements.load("count_events").decode(), before="SET LOCAL enable_seqscan = off")

    assert "webhook_events_dead" in plan
    assert "webhook_events_due" in plan
    assert "webhook_events_processed" in plan


def explain(conn, statement, before=""):
    names = {name: NAMES.get(name, "text") for name in re.findall(r"%\((\w+)\)", statement)}
    # Client-side binding: EXPLAIN takes no parameters of its own.
    with psycopg.ClientCursor(conn) as cursor, conn.transaction(force_rollback=True):
        if before:
            cursor.execute(before)
        cursor.execute(b"EXPLAIN " + statement.replace(")b", ")s").encode(), names)
        return "\n".join(line for (line,) in cursor.fetchall())


@pytest.fixture(scope="module")
def as_role(server_dsn, template):
    """Run statements with the rights of a role, in a database where the grants were made, and undo them."""
    database = created_database(server_dsn, f"{PREFIX}_grants", template)
    with database as dsn, psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(statements.load("grant_roles"))
        conn.execute(statements.load("grant_roles"))

        def run(role, statement, names=None):
            with conn.transaction(force_rollback=True):
                conn.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
                return conn.execute(statement, names)

        add(conn)
        conn.execute("CREATE SCHEMA elsewhere CREATE TABLE secrets (id integer)")  # of another application
        yield run


def test_the_receivers_role_can_insert_and_see_keys(as_role):
    event = {name: NAMES.get(name, "text") for name in (*EVENT, "place", "lock_timeout")}

    for name in ("insert_event", "insert_events"):
        as_role("webhook_receiver", statements.load(name), event)
    for name in ("insert_duplicate", "insert_duplicates"):
        as_role("webhook_receiver", statements.load(name), {**event, "source": "twilio", "event_id": "event-1"})
    as_role("webhook_receiver", statements.load("schema_version"))


def test_the_receivers_role_can_count_refusals_and_list_them(as_role):
    as_role("webhook_receiver", statements.load("add_refusals"), {**NAMES, "sources": ["unknown"]})
    for role in ("webhook_receiver", "webhook_processor"):
        as_role(role, statements.load("list_refusals"), NAMES)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT payload FROM webhook_events",
        "SELECT body FROM webhook_events",
        "UPDATE webhook_events SET processed_at = NULL",
        "DELETE FROM webhook_events",
        "TRUNCATE webhook_events",
        "DELETE FROM webhook_refusals",
        "DROP TABLE webhook_events",
        "CREATE TABLE mine ()",
        "SELECT * FROM dead_letters",
        "COPY webhook_events TO PROGRAM 'true'",
        "COPY webhook_duplicates FROM PROGRAM 'true'",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT rolpassword FROM pg_authid",
        "SELECT headers, url FROM webhook_events",
        "SELECT * FROM webhook_duplicates",
        "UPDATE webhook_duplicates SET same_body = true",
        "SELECT * FROM calls",
        "SELECT * FROM webhook_attempts",
        "INSERT INTO webhook_pauses (kind, name) VALUES ('source', 'twilio')",
        "CREATE SCHEMA mine",
        "CREATE ROLE friend",
        "ALTER TABLE webhook_events DISABLE TRIGGER ALL",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres'",
    ],
)
def test_the_receivers_role_can_do_nothing_else(as_role, statement):
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_role("webhook_receiver", statement)


def test_the_processors_role_can_claim_complete_and_write_the_handlers_tables(as_role):
    for name in ("claim", "mark_processed", "mark_failed", "replay_events", "count_events", "count_all", "show_event",
                 "list_attempts", "list_actions", "begin_action", "advance_action", "set_pause", "end_pause",
                 "has_target", "list_pauses", "list_breakers", "guard_rehearsal", "diagnose", "old_snapshots",
                 "emit_event", "expect", "fulfil", "raise_overdue"):  # fmt: skip
        statement = statements.load(name)
        names = {key: NAMES.get(key, "text") for key in re.findall(r"%\((\w+)\)", statement.decode())}
        as_role("webhook_processor", statement, names)
    as_role("webhook_processor", "INSERT INTO calls VALUES ('a', 'twilio', 'CA1', 'ringing', NULL, 1)")


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM webhook_events",
        "TRUNCATE webhook_expectations",
        "DROP TABLE calls",
        "ALTER TABLE calls ADD more text",
        "CREATE TABLE mine ()",
        "CREATE ROLE friend",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "CREATE TRIGGER mine BEFORE UPDATE ON webhook_events FOR EACH ROW EXECUTE FUNCTION webhook_events_skip()",
        "ALTER TABLE webhook_events DISABLE TRIGGER ALL",
        "ALTER FUNCTION webhook_events_skip() SET search_path = mine",
        "SELECT * FROM elsewhere.secrets",
        "INSERT INTO elsewhere.secrets VALUES (1)",
        "UPDATE call_events SET state = 'x'",
        "DELETE FROM webhook_duplicates",
        "INSERT INTO webhook_migrations VALUES (999, 'x', 'x')",
        "COPY webhook_events TO PROGRAM 'true'",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT rolpassword FROM pg_authid",
        "SELECT lo_import('/etc/passwd')",
    ],
)
def test_the_processors_role_has_no_ddl_and_deletes_no_events(as_role, statement):
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_role("webhook_processor", statement)
