"""A handler that eats all memory has its worker ended by the kernel, and is blamed alone."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults.attempts import HANDLERS, effects
from tests.inbox import add, look
from tests.processes import processor, wait_for

GROUPS = Path("/sys/fs/cgroup/memory")  # version 1; where systemd has version 2, memory is not ours to limit
LIMIT = 300 << 20


@pytest.fixture
def group():
    """A control group whose members have so much memory together, and no swap."""
    path = GROUPS / f"webhook-inbox-{os.getpid()}"
    try:
        path.mkdir()
    except OSError as error:
        pytest.skip(f"no control group of our own: {error}")
    (path / "memory.limit_in_bytes").write_text(str(LIMIT))
    with suppress(OSError):  # where swap is not counted
        (path / "memory.memsw.limit_in_bytes").write_text(str(LIMIT))
    yield path
    wait_for(lambda: not (path / "cgroup.procs").read_text())
    path.rmdir()


def test_a_handler_that_eats_all_memory_dies_at_its_third_crash_and_harms_nobody(conn, fresh_dsn, trace, group):
    started = add(conn, "fault.note")
    with processor(fresh_dsn, "--interval", "0.1", *HANDLERS) as running:
        wait_for(lambda: effects(conn) == [started])
        (worker,) = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children").read_text().split()
        for member in (running.process.pid, worker):
            (group / "cgroup.procs").write_text(str(member))

        poison, innocent = add(conn, "fault.eat_memory"), add(conn, "fault.note")
        wait_for(lambda: look(conn, poison, "dead_at IS NOT NULL") == (True,))
        wait_for(lambda: effects(conn) == [started, innocent])
        assert running.process.poll() is None

    assert look(conn, poison, "crashes") == (3,)
    assert look(conn, innocent, "crashes, outcome") == (0, "handled")
