"""`processor watch campaign`: progress as it changes, until the campaign is completed."""

import json
import os
import signal
import subprocess
import sys
import threading
from queue import SimpleQueue

import psycopg
import pytest

from processor import watch
from tests.commands import lines, runner
from tests.processes import DEADLINE

FIGURES = ("status", "total", "active", "completed", "failed")


@pytest.fixture
def campaign(db):
    """A campaign of two calls, c1 and c2; end(call, state) ends one."""
    db.execute("INSERT INTO campaigns (campaign_id) VALUES ('camp-1')")
    db.execute(
        "INSERT INTO calls (provider, call_id, campaign_id) VALUES ('vapi', 'c1', 'camp-1'), ('vapi', 'c2', 'camp-1')"
    )
    return lambda call, state: db.execute("UPDATE calls SET state = %s WHERE call_id = %s", [state, call])


def complete(db):
    db.execute("UPDATE campaigns SET status = 'COMPLETED', completed_at = now()")


def figures(row):
    return tuple(row[name] for name in FIGURES)


def rates(db):
    found = watch.campaign_progress(db, "default", "camp-1")
    assert found is not None
    return [found[name] for name in ("completed_rate", "failed_rate", "ended_rate")]


@pytest.fixture
def following(db, dsn, campaign):
    """Function that returns the figures that follow_campaign yields next, and fails where none come."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        told: SimpleQueue[tuple[object, ...] | None] = SimpleQueue()

        def look():
            for row in watch.follow_campaign(conn, "default", "camp-1", interval=0.01):
                told.put(figures(row))
            told.put(None)

        thread = threading.Thread(target=look)
        thread.start()
        yield lambda: told.get(timeout=DEADLINE)
        complete(db)
        thread.join(DEADLINE)


def test_progress_is_told_at_first_at_each_change_and_no_more_once_it_is_completed(db, campaign, following):
    assert following() == ("RUNNING", 2, 2, 0, 0)
    campaign("c1", "completed")
    assert following() == ("RUNNING", 2, 1, 1, 0)
    campaign("c2", "busy")
    assert following() == ("RUNNING", 2, 0, 1, 1)
    complete(db)

    assert following() == ("COMPLETED", 2, 0, 1, 1)
    assert following() is None


def test_what_changes_nothing_of_the_figures_is_not_told(db, campaign, following):
    assert following() == ("RUNNING", 2, 2, 0, 0)
    campaign("c1", "ringing")
    db.execute("UPDATE calls SET to_number = '+1555'")
    campaign("c1", "failed")

    assert following() == ("RUNNING", 2, 1, 0, 1)


def test_a_watcher_holds_no_transaction_open_between_its_looks(db, dsn, campaign):
    with psycopg.connect(dsn, autocommit=True) as conn:
        next(watch.follow_campaign(conn, "default", "camp-1"))

        assert conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_the_rates_are_shares_and_none_before_the_first_call(db, dsn):
    db.execute("INSERT INTO campaigns (campaign_id, planned_calls) VALUES ('camp-1', 4)")
    assert rates(db) == [None, None, 0]
    db.execute("INSERT INTO calls (provider, call_id, campaign_id, state) VALUES ('vapi', 'c1', 'camp-1', 'completed'),"
               " ('vapi', 'c2', 'camp-1', 'busy'), ('vapi', 'c3', 'camp-1', 'answered')")  # fmt: skip

    assert rates(db) == [0.3333, 0.3333, 0.5]


def test_a_campaign_of_another_tenant_is_none(db, campaign):
    assert watch.campaign_progress(db, "acme", "camp-1") is None


def test_a_completed_campaign_is_printed_once_with_exit_0(db, dsn, campaign):
    campaign("c1", "completed")
    campaign("c2", "completed")
    complete(db)

    done = runner(dsn)("watch", "campaign", "camp-1", "--json")

    (found,) = lines(done)
    assert (done.returncode, done.stderr) == (0, "")
    assert figures(found) == ("COMPLETED", 2, 0, 2, 0)
    assert (found["completed_rate"], found["campaign_id"], found["app_id"]) == (1.0, "camp-1", "default")


def test_a_line_has_the_time_the_status_the_figures_and_the_rates(db, dsn, campaign):
    campaign("c1", "completed")
    complete(db)

    head, line = runner(dsn)("watch", "campaign", "camp-1").stdout.splitlines()

    assert head == "at\tstatus\ttotal\tactive\tcompleted\tfailed\tcompleted_rate\tfailed_rate\tended_rate"
    assert line.split("\t")[1:] == ["COMPLETED", "2", "1", "1", "0", "0.5", "0.0", "0.5"]


@pytest.mark.parametrize("arguments", [["other"], ["camp-1", "--app", "acme"]])
def test_where_there_is_no_such_campaign_it_says_so_with_exit_3(dsn, campaign, arguments):
    done = runner(dsn)("watch", "campaign", *arguments)

    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(f"no campaign '{arguments[0]}' of app ")


def test_a_deployment_without_campaigns_is_told_so(fresh_dsn):
    with psycopg.connect(fresh_dsn, autocommit=True) as conn:
        conn.execute("DROP VIEW campaign_progress")

    done = runner(fresh_dsn)("watch", "campaign", "camp-1")

    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.startswith("error: no campaigns here: the view campaign_progress is missing; run `processor db")


def test_it_follows_until_ctrl_c_and_then_ends_quietly_with_130(db, dsn, campaign):
    with subprocess.Popen(
        [sys.executable, "-m", "processor", "watch", "campaign", "camp-1", "--json"], text=True,
        env={**os.environ, "DATABASE_URL": dsn}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert figures(json.loads(process.stdout.readline())) == ("RUNNING", 2, 2, 0, 0)
            campaign("c1", "completed")
            assert figures(json.loads(process.stdout.readline())) == ("RUNNING", 2, 1, 1, 0)

            process.send_signal(signal.SIGINT)

            assert process.wait(DEADLINE) == 130
            assert process.stderr.read() == ""
        finally:
            process.kill()
