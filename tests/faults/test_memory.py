"""Memory that runs out, by control group: a handler is blamed alone, and a killed receiver has lost nothing."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.attempts import HANDLERS, effects
from tests.faults.load import load, lost
from tests.faults.memory_group import NoGroup, group
from tests.inbox import add, look
from tests.processes import Command, free_port, processor, receiver, wait_for

LIMIT = 300 << 20
MEGABYTE = 1_000_000  # bytes more a body; the receiver takes 1 MiB in all


@pytest.fixture
def limited():
    """A function that makes a group of processes with so much memory."""
    with ExitStack() as stack:

        def made(limit=LIMIT):
            try:
                return stack.enter_context(group(limit))
            except NoGroup as reason:
                pytest.skip(f"no control group of our own: {reason}")

        yield made


def test_a_handler_that_eats_all_memory_dies_at_its_third_crash_and_harms_nobody(conn, fresh_dsn, trace, limited):
    members = limited()
    started = add(conn, "fault.note")
    with processor(fresh_dsn, "--interval", "0.1", *HANDLERS) as running:
        wait_for(lambda: effects(conn) == [started])
        (worker,) = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children").read_text().split()
        members.add(running.process.pid, int(worker))

        poison, innocent = add(conn, "fault.eat_memory"), add(conn, "fault.note")
        wait_for(lambda: look(conn, poison, "dead_at IS NOT NULL") == (True,))
        wait_for(lambda: effects(conn) == [started, innocent])
        assert running.process.poll() is None

    assert look(conn, poison, "crashes") == (3,)
    assert look(conn, innocent, "crashes, outcome") == (0, "handled")


def test_sixteen_senders_of_large_bodies_stay_within_the_receivers_memory(dsn, limited):
    members, port = limited(), free_port()
    command = Command(dsn, "receiver", "run", "--port", str(port), before=members.run)
    try:
        with load(port, senders=16, size=MEGABYTE) as sent:
            wait_for(lambda: len(sent.acknowledged) > 48)
        assert command.process.poll() is None
    finally:
        command.stop()

    # A commit that the disk has too late is a 503, and no question of memory.
    assert set(sent.refused) <= {503}
    assert sent.refused.total() < len(sent.acknowledged) / 4
    assert members.peak() < LIMIT
    assert lost(dsn, sent.acknowledged) == []


def test_a_receiver_that_the_kernel_kills_for_its_memory_has_lost_nothing_it_acknowledged(dsn, limited):
    members, port = limited(16 << 20), free_port()
    with receiver(dsn, port) as running, load(port, "small") as sent:
        wait_for(lambda: len(sent.acknowledged) > 100)
        members.add(running.process.pid)
        with load(port, "large", senders=16, size=MEGABYTE) as large:
            wait_for(lambda: running.process.poll() is not None)
        ended = running.process.returncode
        running.kill_and_restart()
        before = len(sent.acknowledged)
        wait_for(lambda: len(sent.acknowledged) > before + 100)

    assert ended == -9
    assert lost(dsn, sent.acknowledged | large.acknowledged) == []
