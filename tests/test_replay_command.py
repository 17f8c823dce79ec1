"""`replay` and `skip` of many events: in chunks, no faster than asked, stopped and resumed, noted."""

import os
import shlex
import signal
import subprocess
import sys
import threading

import pytest

from processor import actions, bulk, operations
from processor.bulk import Bulk
from processor.operations import Filter
from tests.commands import lines, runner
from tests.inbox import add, look
from tests.processes import DEADLINE, wait_for


@pytest.fixture
def run(dsn):
    return runner(dsn)


def processed(db, count=1):
    return [add(db, processed_at="2026-01-01", outcome="handled") for _ in range(count)]


def replays(db):
    return db.execute("SELECT id FROM webhook_events WHERE replays > 0 ORDER BY id").fetchall()


def test_a_change_is_committed_chunk_by_chunk_in_the_order_of_the_ids(db, monkeypatch):
    monkeypatch.setattr(bulk, "CHUNK", 2)
    ids, seen = processed(db, 5), []
    action = actions.begin(db, "replay", {}, ids=ids)

    def change(conn, chunk):
        seen.append((chunk, look(db, ids[0], "replays")[0]))
        return operations.replay(conn, chunk)

    change_all = Bulk(change, ids[::-1], action)
    assert change_all.run(db)

    assert [chunk for chunk, _ in seen] == [ids[:2], ids[2:4], ids[4:]]
    assert (change_all.done, change_all.last) == (5, ids[-1])
    (noted,) = actions.recent(db, 10)
    assert (noted["events"], noted["done"], noted["ended_at"] is not None) == (5, 5, True)


def test_it_is_no_faster_than_asked(db):
    waits = []

    class Stopping(threading.Event):
        def wait(self, timeout=None):
            waits.append(timeout)
            return False

    ids = processed(db, 5)
    Bulk(operations.replay, ids, actions.begin(db, "replay", {}, ids=ids), 2.0, Stopping()).run(db)

    assert len(waits) == 3
    assert waits[0] == 0
    # Two a second: the second chunk is due 1 s after the beginning, the third 2 s; what passed is taken off.
    assert 0 < waits[1] <= 1
    assert waits[1] < waits[2] <= 2


def test_told_to_stop_it_ends_after_the_chunk_in_hand(db, monkeypatch):
    monkeypatch.setattr(bulk, "CHUNK", 2)
    ids, stopping = processed(db, 5), threading.Event()
    action = actions.begin(db, "replay", {}, ids=ids)

    change = Bulk(operations.replay, ids, action, stopping=stopping, told=lambda looked: stopping.set())
    assert not change.run(db)

    assert (change.done, change.last) == (2, ids[1])
    (noted,) = actions.recent(db, 10)
    assert (noted["done"], noted["ended_at"]) == (2, None)


def test_ctrl_c_says_how_many_are_done_and_how_to_go_on(run, dsn, db):
    ids = processed(db, 30)
    with subprocess.Popen(
        [sys.executable, "-m", "processor", "replay", "--type=call.ringing", "--since=1d", "--rate=1/s", "--yes"],
        env={**os.environ, "DATABASE_URL": dsn}, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        wait_for(lambda: len(replays(db)) >= 2)
        process.send_signal(signal.SIGINT)
        words = process.stderr.read()
        assert process.wait(DEADLINE) == 130
    done = replays(db)
    later = add(db, processed_at="2026-01-01", outcome="handled")

    assert f"{len(done)} replayed\n" in words
    (_, command) = words.rsplit("go on with: processor ", 1)
    db.execute("UPDATE webhook_events SET processed_at = now(), outcome = 'handled' WHERE processed_at IS NULL")
    resumed = run(*shlex.split(command), "--rate", "1000/s")

    assert resumed.returncode == 0, resumed.stderr
    assert f"{len(ids) - len(done)} replayed" in resumed.stderr
    assert set(db.execute("SELECT replays FROM webhook_events WHERE id <> %s", [later])) == {(1,)}
    assert look(db, later, "replays") == (0,)


def test_who_did_it_why_and_to_what_is_listed(run, db):
    (event, other) = processed(db, 2)

    run("replay", event, "--reason", "the CRM is back")
    run("skip", "--subject", "call/CA1", "--reason", "too late")

    (skip, replay) = lines(run("actions", "--json"))
    assert (replay["verb"], replay["reason"], replay["who"]) == ("replay", "the CRM is back", actions.who())
    assert (replay["events"], replay["done"], replay["chosen"]) == (1, 1, {})
    assert (skip["verb"], skip["chosen"]) == ("skip", {"subject": "call/CA1"})
    assert [row["verb"] for row in actions.recent(db, 10, other)] == []
    assert "the CRM is back" in run("actions").stdout


def test_json_tells_the_action_and_the_count(run, db):
    processed(db, 3)

    (done,) = lines(run("replay", "--all", "--yes", "--json"))

    assert done == {"action": "1", "events": 3, "replayed": 3, "ended": True}


def test_events_without_a_body_are_left_out_and_told(run, db):
    whole, empty = processed(db, 2)
    db.execute("UPDATE webhook_events SET body_removed_at = now() WHERE id = %s", [empty])

    done = run("replay", "--all", "--yes")

    assert "1 event left out: retention has removed the body\n1 event to replay\n" in done.stderr
    assert replays(db) == [(whole,)]
    assert run("replay", empty).returncode == 3


def test_a_bad_rate_is_wrong_usage(run):
    done = run("replay", "1", "--rate", "fast")

    assert done.returncode == 2
    assert "expected 20/s, 300/m or 1000/h, got 'fast'" in done.stderr


def test_after_takes_only_greater_ids(db):
    first, second = processed(db, 2)

    assert operations.find(db, Filter(after=first)) == [second]
