"""The spool's disk loses its power in the middle of an append, and its file is torn: what was acknowledged is there."""

import os
import subprocess
import sys
from contextlib import closing

import pytest

from receiver.outage.spool import Spool
from tests.faults.disks import disk
from tests.faults.machine import freeze, kill_tree
from tests.processes import wait_for

__all__ = ["disk"]


class Writer:
    """A process that appends to a spool; its acknowledgements are in our hands."""

    def __init__(self, path, acknowledged) -> None:
        self.path = path
        self.acknowledged = acknowledged
        command = [sys.executable, "-m", "tests.faults.spool_writer", str(path)]
        with acknowledged.open("wb") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL)

    def count(self) -> int:
        """Return how many appends were acknowledged."""
        return int(self.acknowledged.read_bytes().count(b"\n"))

    def kill(self) -> None:
        kill_tree(self.process.pid)
        self.process.wait()


@pytest.fixture
def writing(tmp_path):
    writers = []

    def start(path):
        writers.append(Writer(path, tmp_path / "acknowledged"))
        return writers[0]

    yield start
    for writer in writers:
        writer.kill()


def numbers(path):
    """Return what a spool holds, opened as a receiver does after a crash."""
    with closing(Spool(path)) as spool:
        found, last = [], -1
        while records := spool.peek(1000):
            assert records[0].id > last
            last = records[-1].id
            found += [int(record.row["event_id"]) for record in records]
            spool.delete(records)
        assert spool.rejected == 0
    return found


@pytest.mark.parametrize("appends", [1, 300])
def test_all_that_was_acknowledged_before_the_cut_is_there_and_nothing_else_but_the_one_under_way(
    disk, writing, appends
):
    volume = disk()
    writer = writing(volume.path / "slot-0.db")
    wait_for(lambda: writer.count() >= appends)
    freeze(writer.process.pid)
    volume.cut()
    writer.kill()
    acknowledged = writer.count()
    volume.restore()

    found = numbers(writer.path)

    assert found == list(range(len(found)))
    assert len(found) in (acknowledged, acknowledged + 1)


def test_a_log_that_lost_its_last_hundred_bytes_keeps_all_before_the_append_that_wrote_them(tmp_path, writing):
    writer = writing(tmp_path / "slot-0.db")
    wait_for(lambda: writer.count() >= 20)
    writer.kill()
    log = tmp_path / "slot-0.db-wal"
    os.truncate(log, log.stat().st_size - 100)

    found = numbers(writer.path)

    assert found == list(range(len(found)))
    assert writer.count() - 1 <= len(found) <= writer.count()
