"""A machine that vanishes in the middle of an event: nobody tells the database, and still its events come free."""

import pytest

from tests.faults.attempts import HANDLERS, attempts, effects
from tests.faults.cable import Cable
from tests.inbox import add, look
from tests.processes import processor, wait_for


@pytest.fixture
def cable(fresh_dsn):
    with Cable(fresh_dsn) as cable:
        yield cable


def test_the_event_of_a_machine_that_vanished_is_taken_up_after_its_timeout_at_the_latest(
    conn, fresh_dsn, trace, cable
):
    event = add(conn, "fault.sleep_once")
    options = ("--interval", "0.1", "--handler-timeout", "2", *HANDLERS)

    with processor(cable.dsn, *options):
        wait_for(lambda: attempts(trace))
        cable.cut()
        with processor(fresh_dsn, *options):
            wait_for(lambda: look(conn, event, "outcome") == ("handled",))

    assert effects(conn) == [event]
