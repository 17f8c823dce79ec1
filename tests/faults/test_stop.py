"""SIGTERM while a handler runs: the first lets it finish, the second does not, and nothing is lost either way."""

import pytest

from tests.faults.attempts import HANDLERS, attempts, effects
from tests.inbox import add, look
from tests.processes import DEADLINE, processor, wait_for

OPTIONS = ("--interval", "0.1", "--workers", "2", *HANDLERS)


@pytest.fixture
def at_work(conn, fresh_dsn, trace):
    """A processor in the middle of an event, and the event."""
    event = add(conn, "fault.wait_for_a_file")
    with processor(fresh_dsn, *OPTIONS) as running:
        wait_for(lambda: attempts(trace))
        yield running.process, event


def test_the_first_sigterm_lets_the_handler_finish_and_commits(at_work, conn, trace):
    process, event = at_work

    process.terminate()
    trace.with_suffix(".go").touch()

    assert process.wait(DEADLINE) == 0
    assert look(conn, event, "outcome, attempts") == ("handled", 1)
    assert effects(conn) == [event]


def test_the_second_sigterm_leaves_at_once_and_the_event_is_due_again(at_work, conn, fresh_dsn, trace):
    process, event = at_work

    wait_for(lambda: process.poll() is not None or process.terminate())  # more than one, each after the last was seen
    assert look(conn, event, "outcome, dead_at") == (None, None)

    trace.with_suffix(".go").touch()
    with processor(fresh_dsn, *OPTIONS):
        wait_for(lambda: look(conn, event, "outcome") == ("handled",))
    assert effects(conn) == [event]


def test_leaving_at_once_is_nobodys_crash(at_work, conn, fresh_dsn, trace):
    process, event = at_work

    wait_for(lambda: process.poll() is not None or process.terminate())
    assert process.returncode == 0
    trace.with_suffix(".go").touch()
    with processor(fresh_dsn, *OPTIONS):
        wait_for(lambda: look(conn, event, "outcome") == ("handled",))

    assert look(conn, event, "crashes") == (0,)
