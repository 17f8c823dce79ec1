"""Disks that are full, the database's or the spool's: 2xx only for what is kept, and on by itself with space again."""

import pytest

from tests.faults.disks import disk
from tests.faults.load import load, lost
from tests.faults.machine import Database
from tests.processes import free_port, receiver, wait_for

__all__ = ["disk"]

SIZE = 40_000  # bytes a body, so that a disk's last space is gone in seconds
SMALL = 400 << 20  # of a database's disk


@pytest.fixture
def database(disk):
    made = Database(disk(SMALL))
    yield made
    made.volume.free()
    made.kill()


def make_space(database):
    """Give the disk's space back, and start the server as somebody has to whose log could not be written."""
    database.volume.free()
    if database.has_ended():
        database.kill()
        database.start()


def test_without_a_spool_a_full_database_is_503_and_nothing_acknowledged_is_lost(database):
    port = free_port()
    with receiver(database.dsn, port, SPOOL_DIR="off"), load(port, size=SIZE) as sent:
        wait_for(lambda: sent.acknowledged)
        database.volume.fill()
        wait_for(lambda: sent.refused[503] > 20)
        make_space(database)
        before = len(sent.acknowledged)
        wait_for(lambda: len(sent.acknowledged) > before + 20)

    assert set(sent.refused) == {503}
    assert lost(database.dsn, sent.acknowledged) == []
