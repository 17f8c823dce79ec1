"""The doctors: each fault injected into a real database is told, with what to do."""

import re
import threading
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg import sql

from sql import checkup
from tests.commands import lines, runner
from tests.inbox import add
from tests.processes import SECRET


def findings(dsn):
    return list(checkup.examine({"DATABASE_URL": dsn}, "inbox-doctor"))


def faults(dsn):
    """Return what isn't well, but for what the tests' server may be set to for speed."""
    mine = (one for one in findings(dsn) if one.check not in ("fsync", "full_page_writes"))
    return [(one.level, one.check) for one in mine if one.level != "ok"]


@pytest.fixture
def owner(fresh_dsn):
    with psycopg.connect(fresh_dsn, autocommit=True) as conn:
        yield conn


def alter(owner, setting):
    """Change a setting of the database, for connections to come."""
    name = sql.Identifier(owner.info.dbname)
    owner.execute(sql.SQL("ALTER DATABASE {} SET ").format(name) + sql.SQL(setting))


def test_a_database_as_we_want_it_has_no_fault(fresh_dsn):
    assert faults(fresh_dsn) == []
    assert {one.check for one in findings(fresh_dsn)} >= {
        "DATABASE_URL", "database", "clock", "fsync", "synchronous_commit", "schema", "autovacuum", "dead rows",
        "old snapshots",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("url", "check", "words"),
    [
        ("", "DATABASE_URL", "set DATABASE_URL"),
        ("postgresql//u:SECRETPW@h/x", "DATABASE_URL", "does not parse"),
        ("postgresql://u:SECRETPW@127.0.0.1:1/x", "database", "does not answer"),
    ],
)
def test_a_database_that_is_not_there_is_a_fault_without_its_password(url, check, words):
    *_, last = findings(url)

    assert (last.level, last.check) == ("FAIL", check)
    assert words in last.found
    assert "SECRETPW" not in last.found + last.fix


def test_an_older_and_a_newer_schema_are_faults(owner, fresh_dsn):
    owner.execute("DELETE FROM webhook_migrations WHERE version > 1")
    older = [one for one in findings(fresh_dsn) if one.check == "schema"]
    owner.execute("INSERT INTO webhook_migrations VALUES (9999, 'later', '')")
    newer = [one for one in findings(fresh_dsn) if one.check == "schema"]

    assert [(one.level, one.fix) for one in older + newer] == [
        ("FAIL", "run `processor db migrate`"), ("FAIL", "upgrade webhook-inbox on this machine"),
    ]  # fmt: skip


def test_a_database_without_tables_is_told_what_to_run(empty_dsn):
    assert [one.fix for one in findings(empty_dsn) if one.level == "FAIL"] == ["run `processor db migrate`"]


@pytest.mark.parametrize(
    ("setting", "fault"),
    [("synchronous_commit = off", ("warn", "synchronous_commit")),
     ("default_transaction_read_only = on", ("FAIL", "writable"))],
)  # fmt: skip
def test_a_setting_of_the_database_is_a_fault(owner, fresh_dsn, setting, fault):
    alter(owner, setting)

    assert faults(fresh_dsn) == [fault]


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("ALTER TABLE webhook_events SET (autovacuum_enabled = false)", ("FAIL", "autovacuum")),
        ("ALTER TABLE webhook_runs SET LOGGED", ("warn", "unlogged table")),
    ],
)
def test_a_table_made_otherwise_is_a_fault(owner, fresh_dsn, statement, fault):
    owner.execute(statement)

    assert faults(fresh_dsn) == [fault]


ROW = {"fsync": True, "full_page_writes": True, "synchronous_commit": "on", "read_only": False, "autovacuum": True,
       "table_autovacuum": True, "runs_unlogged": True, "dead_rows": 0, "live_rows": 0}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"fsync": False}, ("FAIL", "fsync")),
        ({"full_page_writes": False}, ("warn", "full_page_writes")),
        ({"autovacuum": False}, ("FAIL", "autovacuum")),
        ({"dead_rows": 200_000, "live_rows": 300_000}, ("warn", "dead rows")),
    ],
)
def test_a_server_set_otherwise_is_a_fault(change, fault):
    found = [*checkup.durability({**ROW, **change}), *checkup.upkeep({**ROW, **change})]

    assert [(one.level, one.check) for one in found if one.level != "ok"] == [fault]
    assert all(one.fix for one in found if one.level != "ok")


def test_many_dead_rows_beside_more_live_ones_are_none():
    assert {one.level for one in checkup.upkeep({**ROW, "dead_rows": 200_000, "live_rows": 3_000_000})} == {"ok"}


def test_a_server_that_is_too_old_is_a_fault():
    assert checkup.version({"version_num": 130012, "version": "13.12"}).level == "FAIL"


@pytest.mark.parametrize(
    ("skew", "took", "level"),
    [
        (0, 0.1, "ok"),
        (5, 6, "ok"),
        (-1, 0, "ok"),
        (5, 0.1, "warn"),
        (-5, 0.1, "warn"),
        (90, 1, "FAIL"),
        (-90, 1, "FAIL"),
    ],
)
def test_clocks_that_differ_are_a_fault(skew, took, level):
    now = datetime(2026, 11, 21, tzinfo=UTC)

    assert checkup.clock(now, now + timedelta(seconds=skew), took).level == level


def test_an_old_transaction_is_named(owner, fresh_dsn, monkeypatch):
    monkeypatch.setattr(checkup, "SNAPSHOT", timedelta(0))
    with psycopg.connect(fresh_dsn, application_name="nightly-report") as report:
        report.execute("SELECT count(*) FROM webhook_events")
        found = [one.found for one in findings(fresh_dsn) if one.check == "old snapshots"]

    assert len(found) == 1
    assert "idle in transaction: " in found[0]
    assert "nightly-report" in found[0]


def test_a_role_that_sees_too_little_is_told(owner, fresh_dsn):
    role = f"blind_{threading.get_native_id()}"
    owner.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
    try:
        with psycopg.connect(fresh_dsn, autocommit=True) as conn:
            conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
            row = conn.execute("SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')").fetchone()
            found = list(checkup.snapshots(conn, sees_all=bool(row and row[0])))
    finally:
        owner.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))

    assert [(one.level, one.fix) for one in found] == [("warn", "GRANT pg_read_all_stats TO this role")]


def test_the_processors_doctor_exits_4_only_where_something_fails(dsn, db):
    run = runner(dsn)
    add(db)

    well, ill = run("doctor"), run("doctor", "--handlers", "no_such_module", "--json", DATABASE_URL="")

    assert well.returncode == 0, well.stdout
    assert re.search(r"^ok    handlers +[1-9]\d* for [1-9]\d* event types$", well.stdout, re.MULTILINE)
    assert ill.returncode == 4
    assert [(row["level"], row["check"]) for row in lines(ill)] == [("FAIL", "handlers"), ("FAIL", "DATABASE_URL")]


def test_the_receivers_doctor_names_sources_and_no_secret(dsn):
    run = runner(dsn, "receiver")

    well, ill = run("doctor", WEBHOOK_SECRET=SECRET), run("doctor", "--json", WEBHOOK_SECRET="")

    assert well.returncode == 0, well.stdout
    assert "ok    source              agent: env:WEBHOOK_SECRET\n" in well.stdout
    assert SECRET not in well.stdout + well.stderr
    assert ill.returncode == 4
    assert "WEBHOOK_SECRET" in lines(ill)[0]["found"]
