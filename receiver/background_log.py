"""The receiver's log, written by a thread of its own: whoever reads the log, or doesn't, no delivery waits for it.

Lines wait in memory, in their order, those below WARNING up to GATHER for others to be written with. When nobody
reads them, what is more than MOST bytes is dropped and counted; WARNING and above have the last half for themselves.
A process that is killed takes what waits with it: the log is no record of what is stored, the table is.
"""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, RLock, Thread

from sql.log import OneLine

GATHER = 0.05  # seconds
MOST = 1024 * 1024  # bytes that wait, some 10,000 lines
LAST_SECONDS = 1.0  # at the end, for what still waits


class BackgroundHandler(logging.Handler):
    """Takes lines under logging's own lock, and has a thread write them to a file descriptor. *most*: as MOST."""

    formatter: OneLine
    lock: RLock

    def __init__(self, descriptor: int, formatter: OneLine, most: int = MOST) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self.descriptor = descriptor
        self.most = most
        self.lines: list[bytes] = []
        self.size = 0  # bytes that aren't written yet
        self.dropped = 0
        self.some, self.urgent, self.ended = Event(), Event(), False
        self.thread = Thread(target=self._run, name="log", daemon=True)
        self.thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Have the record written soon."""
        self._put(self._line(record), urgent=record.levelno >= logging.WARNING)

    def _put(self, line: bytes, *, urgent: bool) -> None:
        if self.size + len(line) > (self.most if urgent else self.most // 2):
            self.dropped += 1
            return
        self.lines.append(line)
        self.size += len(line)
        if len(self.lines) == 1:
            self.some.set()
        if urgent:
            self.urgent.set()

    def info(self, name: str, text: str) -> None:
        """Do as for a record of level INFO, without making one."""
        line = self.formatter.line(time.time(), "INFO", name, text)
        with self.lock:
            self._put(line.encode("utf-8", "backslashreplace") + b"\n", urgent=False)

    def end(self) -> bool:
        """Return whether all has been written, or could not be; False: who reads it does not."""
        self.ended = True
        self.some.set()
        self.urgent.set()
        self.thread.join(LAST_SECONDS)
        return not self.thread.is_alive()

    def _run(self) -> None:
        while not self.ended or self.lines:
            self.some.wait()
            self.urgent.wait(GATHER)
            self._write(self._taken())

    def _taken(self) -> bytes:
        """Return what waits, and that some was dropped."""
        self.acquire()
        try:
            if not self.ended:
                self.some.clear()
                self.urgent.clear()
            if self.dropped:
                told = {"name": "receiver", "levelno": logging.WARNING, "levelname": "WARNING"}
                words = f"log lines dropped count={self.dropped}; who reads them did not keep up"
                self.lines.append(self._line(logging.makeLogRecord({**told, "msg": words})))
                self.size += len(self.lines[-1])
                self.dropped = 0
            taken, self.lines = self.lines, []
        finally:
            self.release()
        return b"".join(taken)

    def _write(self, data: bytes) -> None:
        """Write it all, however long that takes; what can't be written at all is lost."""
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self.descriptor, left) :]
        except OSError:  # a full disk, a reader that is gone: nobody can be told
            pass
        self.acquire()
        self.size -= len(data)
        self.release()

    def _line(self, record: logging.LogRecord) -> bytes:
        return self.format(record).encode("utf-8", "backslashreplace") + b"\n"


def info(log: logging.Logger, text: str, *values: object) -> None:
    """Do as log.info does, for what is said of each delivery.

    Where only a thread of ours would get the record, none is made: that would take twice as long as all else.
    """
    handlers = logging.root.handlers
    if len(handlers) == 1 and type(handlers[0]) is BackgroundHandler and not log.handlers and not log.filters:
        if log.isEnabledFor(logging.INFO):
            handlers[0].info(log.name, text % values)
    else:
        log.info(text, *values)


@contextmanager
def in_background() -> Iterator[None]:
    """Have our log, where this process has it, written by a thread inside, and all of it written at the end."""
    root = logging.getLogger()
    ours = [
        (one, one.formatter)
        for one in root.handlers
        if isinstance(one, logging.StreamHandler) and isinstance(one.formatter, OneLine)
    ]
    if not ours:
        yield
        return
    direct, formatter = ours[0]
    background = BackgroundHandler(direct.stream.fileno(), formatter)
    root.removeHandler(direct)
    root.addHandler(background)
    try:
        yield
    finally:
        if background.end():  # else what is still to be said is not waited for, either
            root.removeHandler(background)
            root.addHandler(direct)
