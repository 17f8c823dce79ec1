"""A log that can't be written, its disk full or its reader gone: what can't be said keeps nobody from working."""

import os
from pathlib import Path

import pytest

from benchmarks.server import answers
from tests.faults.attempts import HANDLERS, effects
from tests.http_receiver import rows
from tests.inbox import add
from tests.processes import Command, agent_event, free_port, post, wait_for


class Log:
    """What a command writes its log to."""

    def __init__(self, how: str) -> None:
        self.reader = None
        if how == "full":
            self.end = os.open("/dev/full", os.O_WRONLY)
        else:
            self.reader, self.end = os.pipe()

    def lose(self) -> None:
        """Take its reader away, where it has one."""
        if self.reader is not None:
            os.close(self.reader)
            self.reader = None

    def close(self) -> None:
        self.lose()
        os.close(self.end)


@pytest.fixture(params=["full", "closed"])
def log(request):
    if request.param == "full" and not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    made = Log(request.param)
    yield made
    made.close()


def test_a_receiver_whose_log_is_lost_stores_and_refuses_as_before(db, dsn, log):
    port = free_port()
    command = Command(dsn, "receiver", "run", "--port", str(port), stderr=log.end, LOG_LEVEL="DEBUG")
    try:
        wait_for(lambda: answers(port))
        log.lose()
        statuses = [post(port, *agent_event(f"event-{number % 3}")) for number in range(6)]
        body, _ = agent_event("forged")
        statuses.append(post(port, body, {"x-webhook-signature": "0" * 64}))
    finally:
        code = command.stop()

    assert statuses == [200] * 6 + [401]
    assert len(rows(db)) == 3
    assert code == 0


def test_a_processor_whose_log_is_lost_handles_and_replaces_workers_as_before(conn, fresh_dsn, trace, log):
    first = add(conn, "fault.note")
    options = ("--interval", "0.1", *HANDLERS)
    command = Command(fresh_dsn, "processor", "run", *options, stderr=log.end, LOG_LEVEL="DEBUG")
    try:
        wait_for(lambda: effects(conn) == [first])
        log.lose()
        deadly, last = add(conn, "fault.die_once"), add(conn, "fault.note")
        wait_for(lambda: effects(conn) == [first, deadly, last])
    finally:
        code = command.stop()

    assert code == 0
