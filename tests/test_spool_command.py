"""`receiver spool`: what an operator sees of what waits, and brings to the database himself."""

import json

import pytest

from receiver.outage.slot import take
from receiver.outage.spool import Spool
from tests.commands import lines, runner
from tests.processes import free_port
from tests.spools import fill, row


@pytest.fixture
def spooled(tmp_path):
    """A directory in which a receiver that is gone has left two events, and a rejected one."""
    slot = take(tmp_path)
    spool = Spool(slot.path)
    fill(spool, "1", "2", "3")
    spool.reject({2: "PostgreSQL refused the row (23514)"})
    spool.close()
    slot.free()
    return tmp_path


@pytest.fixture
def run(dsn, spooled):
    command = runner(dsn, "receiver")
    return lambda *arguments, **environ: command("spool", *arguments, **{"SPOOL_DIR": str(spooled), **environ})


def test_status_tells_how_much_waits(run):
    (found,) = lines(run("status", "--json"))

    assert (found["file"], found["live"], found["deliveries"], found["rejected"]) == ("slot-0", False, 2, 1)
    assert found["oldest_age_seconds"] > 0


def test_show_tells_what_waits_and_nothing_that_it_says(run):
    done = run("show", "--json")

    assert [(one["id"], one["event_id"], one["rejected"]) for one in lines(done)] == [
        ("slot-0/1", "1", None), ("slot-0/2", "2", "PostgreSQL refused the row (23514)"), ("slot-0/3", "3", None),
    ]  # fmt: skip
    assert "rem_1" not in run("show").stdout + done.stdout


def test_show_writes_one_body_as_it_came(run):
    assert run("show", "--raw", "slot-0/2").stdout == row("2")["body"].decode()


@pytest.mark.parametrize("unknown", ["slot-0/9", "slot-9/1", "2", "slot-0/x"])
def test_show_knows_what_it_does_not_have(run, unknown):
    assert run("show", "--raw", unknown).returncode == 3


def test_drain_brings_what_the_dead_left_and_the_rejected_if_asked(run, db):
    assert run("drain").stdout == "slot-0: 2 brought, 1 rejected\n"

    assert run("drain", "--rejected").stdout == "slot-0: 1 brought, 0 rejected\n"

    assert db.execute("SELECT event_id FROM webhook_events ORDER BY id").fetchall() == [("1",), ("3",), ("2",)]


def test_drain_leaves_a_live_receivers_alone(run, spooled):
    held = take(spooled)

    assert run("drain").stdout == "slot-0: a live receiver drains it\n"
    assert json.loads(run("status", "--json").stdout)["live"] is True

    held.free()


def test_drain_brings_what_is_another_databases_only_where_it_is_named(run, spooled, db):
    take(spooled, "elsewhere-0123456789ab").free()

    assert run("drain").stdout == "slot-0: of another DATABASE_URL; name it to bring it to this one\n"
    assert db.execute("SELECT count(*) FROM webhook_events").fetchone() == (0,)

    assert run("drain", "slot-0").stdout == "slot-0: 2 brought, 1 rejected\n"
    assert run("drain", "slot-9").returncode == 2


def test_without_a_database_drain_is_69_and_keeps_everything(run):
    done = run("drain", DATABASE_URL="postgresql://inbox:pw@127.0.0.1:1/inbox")

    assert done.returncode == 69
    assert lines(run("status", "--json"))[0]["deliveries"] == 2


def test_what_is_off_or_was_never_used_matches_nothing(run, tmp_path):
    assert run("status", SPOOL_DIR="off").returncode == 3
    assert run("status", SPOOL_DIR=str(tmp_path / "none")).returncode == 3


@pytest.mark.parametrize("environ", [{"SPOOL_DIR": "relative"}, {"SPOOL_DIR": "/dev/null/x"}, {"SPOOL_MAX_BYTES": "1"}])
def test_a_receiver_whose_spool_can_not_be_used_does_not_start(dsn, spooled, environ):
    run = ("run", "--port", str(free_port()))
    done = runner(dsn, "receiver")(*run, WEBHOOK_SECRET="s" * 32, **{"SPOOL_DIR": str(spooled), **environ})

    assert done.returncode == 78
    assert next(iter(environ)) in done.stderr
    assert "Traceback" not in done.stderr
