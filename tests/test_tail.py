"""`events tail`: what comes in, once each, however late its commit."""

import json
import os
import signal
import subprocess
import sys
import threading
from queue import SimpleQueue

import psycopg
import pytest

from processor import tail
from processor.operations import Filter
from tests.commands import lines, runner
from tests.inbox import add
from tests.processes import DEADLINE


def test_the_newest_come_the_newest_last(db, dsn):
    for _ in range(4):
        add(db)
    other = add(db, "call.completed")

    assert [row["id"] for row in lines(runner(dsn)("events", "tail", "-n", 3, "--json"))] == ["3", "4", str(other)]
    assert [row["id"] for row in tail.newest(db, Filter(type="call.ringing"), 2)] == [3, 4]


def test_an_event_committed_after_one_of_a_greater_id_is_not_missed(db, dsn):
    add(db)
    with psycopg.connect(dsn) as slow:
        following = tail.follow(db, Filter(), 10, interval=0.01)
        assert ids(following) == [1]
        late = add(slow, event_id="late")
        early = add(db, event_id="early")
        assert ids(following) == [early]
        slow.commit()

        assert late < early
        assert ids(following) == [late]


def test_an_event_is_told_once_and_only_if_it_matches(db):
    following = tail.follow(db, Filter(type="call.completed"), 10, interval=0.01)
    assert ids(following) == []
    first = add(db, "call.completed")
    add(db, "call.ringing")
    assert ids(following) == [first]
    second = add(db, "call.completed")

    assert ids(following) == [second]


def ids(following):
    """Return the ids that come next; fail where none comes."""
    told: SimpleQueue[list[dict[str, int]]] = SimpleQueue()
    threading.Thread(target=lambda: told.put(next(following)), daemon=True).start()
    return [row["id"] for row in told.get(timeout=DEADLINE)]


@pytest.fixture
def followed(dsn):
    """Lines of a running `events tail -f --json`, and the process."""
    with subprocess.Popen(
        [sys.executable, "-m", "processor", "events", "tail", "-f", "--json"], text=True,
        env={**os.environ, "DATABASE_URL": dsn}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        told: SimpleQueue[str] = SimpleQueue()
        reader = threading.Thread(target=read, args=(process.stdout, told), daemon=True)
        reader.start()
        try:
            yield told, process
        finally:
            process.kill()
            reader.join(DEADLINE)


def read(stream, told):
    for line in stream:
        told.put(line)


def test_it_follows_until_ctrl_c_and_then_ends_quietly_with_130(db, followed):
    told, process = followed
    add(db)
    assert json.loads(told.get(timeout=DEADLINE))["id"] == "1"
    add(db)
    assert json.loads(told.get(timeout=DEADLINE))["id"] == "2"

    process.send_signal(signal.SIGINT)

    assert process.wait(DEADLINE) == 130
    assert process.stderr.read() == ""
