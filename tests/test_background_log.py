"""The receiver's log is written by a thread: in order, all of it, and nobody waits for who reads it."""

import fcntl
import logging
import os
import time
from functools import partial
from threading import Thread

import pytest

from benchmarks.server import answers
from receiver.background_log import BackgroundHandler, info
from sql.log import OneLine
from tests.processes import Command, agent_event, free_port, post, wait_for

BUFFER = 4096  # bytes that the pipe holds


class Pipe:
    """What is written to; nobody reads it before begin_to_read()."""

    def __init__(self) -> None:
        self.reader, self.end = os.pipe()
        fcntl.fcntl(self.end, fcntl.F_SETPIPE_SZ, BUFFER)
        self.lines: list[str] = []
        self.reading = Thread(target=self._read)

    def begin_to_read(self) -> None:
        self.reading.start()

    def _read(self) -> None:
        with os.fdopen(self.reader, encoding="utf-8") as lines:
            self.lines = lines.read().splitlines()

    def close(self) -> list[str]:
        """Close our end, and return all lines up to that of the last other one."""
        os.close(self.end)
        if self.reading.ident is None:
            self.begin_to_read()
        self.reading.join()
        return self.lines


@pytest.fixture
def pipe():
    if not hasattr(fcntl, "F_SETPIPE_SZ"):
        pytest.skip("a pipe's size can't be set here")
    return Pipe()


def record(message, level=logging.INFO):
    told = {"name": "receiver", "levelno": level, "levelname": logging.getLevelName(level), "msg": message}
    return logging.makeLogRecord(told)


def messages(lines):
    return [line.partition(" receiver ")[2] for line in lines]


def test_what_is_said_without_a_record_reads_as_with_one(pipe, monkeypatch):
    handler = BackgroundHandler(pipe.end, OneLine())
    log = logging.getLogger("receiver")
    monkeypatch.setattr(logging.root, "handlers", [handler])
    log.setLevel(logging.INFO)
    monkeypatch.setattr(time, "time", lambda: 1_800_000_000.5)

    for say in (log.info, partial(info, log)):
        say("delivery stored source=%s id=%d", "twilio\n\u202e", 7)
    log.setLevel(logging.WARNING)
    info(log, "delivery stored")
    log.setLevel(logging.NOTSET)
    handler.end()

    with_record, without = pipe.close()
    assert with_record == without
    assert "source=twilio\\n\\u202e id=7" in without


def test_a_receiver_whose_log_nobody_reads_stores_and_refuses_as_before(dsn, pipe):
    port = free_port()
    command = Command(dsn, "receiver", "run", "--port", str(port), stderr=pipe.end, LOG_LEVEL="INFO")
    try:
        wait_for(lambda: answers(port))
        statuses = [post(port, *agent_event(f"event-{number}")) for number in range(100)]
        body, _ = agent_event("forged")
        statuses.append(post(port, body, {"x-webhook-signature": "0" * 64}))
    finally:
        pipe.begin_to_read()
        code = command.stop()
    lines = pipe.close()

    assert statuses == [200] * 100 + [401]
    assert code == 0
    assert [line.rpartition("id=")[2] for line in lines if "delivery stored" in line] == list(map(str, range(1, 101)))
    assert sum("delivery refused" in line for line in lines) == 1


def test_a_receiver_whose_log_nobody_reads_ends_when_it_is_told_to(dsn, pipe):
    port = free_port()
    command = Command(dsn, "receiver", "run", "--port", str(port), stderr=pipe.end, LOG_LEVEL="INFO")
    try:
        wait_for(lambda: answers(port))
        for number in range(60):
            post(port, *agent_event(f"event-{number}"))
    finally:
        code = command.stop()
    pipe.close()

    assert code == 0


def test_lines_are_written_in_their_order_and_the_last_before_the_end(pipe):
    handler = BackgroundHandler(pipe.end, OneLine())
    pipe.begin_to_read()

    for number in range(5000):
        handler.handle(record(f"line {number}", logging.WARNING if number % 7 == 0 else logging.INFO))
    ended = handler.end()

    assert (ended, messages(pipe.close())) == (True, [f"line {number}" for number in range(5000)])


def test_what_is_too_much_for_a_reader_that_does_not_read_is_dropped_and_counted(pipe):
    handler = BackgroundHandler(pipe.end, OneLine(), most=20_000)

    for number in range(1000):
        handler.handle(record(f"line {number}"))
    handler.handle(record("last line", logging.WARNING))
    pipe.begin_to_read()
    handler.end()

    found = messages(pipe.close())
    numbers = [int(line.rpartition(" ")[2]) for line in found if line.startswith("line ")]
    counts = [int(line.partition("count=")[2].partition(";")[0]) for line in found if "dropped" in line]
    assert numbers == sorted(numbers)
    assert (len(numbers) + sum(counts), "last line" in found) == (1000, True)
    assert 0 < len(numbers) < 1000
