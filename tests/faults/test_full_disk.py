"""Disks that are full, the database's or the spool's: 2xx only for what is kept, and on by itself with space again."""

import pytest

from tests.faults.disks import disk
from tests.faults.load import load, lost
from tests.faults.machine import Database
from tests.faults.spooled import waiting
from tests.processes import free_port, receiver, wait_for

__all__ = ["disk"]

SIZE = 40_000  # bytes a body, so that a disk's last space is gone in seconds
SMALL, SMALLEST = 400 << 20, 64 << 20  # of a disk: the database's, the spool's


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


def test_with_a_spool_a_full_database_costs_nobody_an_answer_and_all_is_stored_afterwards(database, disk):
    port, spool = free_port(), disk()
    with (
        receiver(database.dsn, port, SPOOL_DIR=str(spool.path / "spool")),
        load(port, size=SIZE) as sent,
    ):
        wait_for(lambda: sent.acknowledged)
        database.volume.fill()
        wait_for(lambda: waiting(port))
        before = len(sent.acknowledged)
        wait_for(lambda: len(sent.acknowledged) > before + 20)
        make_space(database)
        sent.stop()
        wait_for(lambda: waiting(port) == 0)

    assert not sent.refused
    assert sent.broken == 0
    assert lost(database.dsn, sent.acknowledged) == []


def test_a_full_spool_is_503_until_there_is_space_and_then_spools_by_itself(database, disk):
    port, spool = free_port(), disk(SMALLEST)
    with receiver(database.dsn, port, SPOOL_DIR=str(spool.path / "spool")), load(port, size=SIZE) as sent:
        wait_for(lambda: sent.acknowledged)
        database.stop()
        wait_for(lambda: waiting(port))
        spool.fill()
        wait_for(lambda: sent.refused[503] > 20)
        spool.free()
        before = len(sent.acknowledged)
        wait_for(lambda: len(sent.acknowledged) > before + 20)
        sent.stop()
        database.start()
        wait_for(lambda: waiting(port) == 0)

    assert set(sent.refused) == {503}
    assert lost(database.dsn, sent.acknowledged) == []
