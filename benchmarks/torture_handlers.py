"""The handlers of the torture run: one that works, some that fail at first, and poison.

Each leaves a row an attempt that commits, without any constraint that would hide a second one. That nobody else
is at work on its subject it sees in two ways: by the rows of its subject that it can see, which it numbers, and by
a lock of the operating system on the subject's byte of a file, which falls with the process whatever ends it.
"""

import ctypes
import fcntl
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from psycopg import Connection
from psycopg.errors import DivisionByZero

from benchmarks.torture_plan import TRIES
from processor import Event, RetryLater, on

DIRECTORY = Path(os.environ.get("TORTURE_DIR", "."))
# Opened before any connection, so that a process which dies closes it, and loses its locks, before its claim falls.
AT_WORK = os.open(DIRECTORY / "at_work", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
NOTES = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
OVERLAPS = os.open(DIRECTORY / "overlaps", NOTES, 0o600)
ATTEMPTS = os.open(DIRECTORY / "attempts", NOTES, 0o600)

INSERT = """
    INSERT INTO effects (event, replays, subject, place, began)
    SELECT %(id)s, %(replays)s, %(subject)s, count(*), %(began)s FROM effects WHERE subject = %(subject)s
"""


@contextmanager
def alone(event: Event) -> Iterator[None]:
    """Be the one at work on the event's subject; where another live process is, wait for it and report it.

    The byte is 1 while its owner is at work. Who had to wait and then finds a 1 has waited for the dead only: one
    whose kill was not over yet when the database let go of its claim.
    """
    byte = int(event.subject_id)
    waited = False
    try:
        fcntl.lockf(AT_WORK, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
    except BlockingIOError:
        fcntl.lockf(AT_WORK, fcntl.LOCK_EX, 1, byte)
        waited = True
    if waited and os.pread(AT_WORK, 1, byte) != b"1":
        os.write(OVERLAPS, f"{event.subject} {event.id} pid {os.getpid()}\n".encode())
    os.pwrite(AT_WORK, b"1", byte)
    try:
        yield
    finally:
        os.pwrite(AT_WORK, b"0", byte)
        fcntl.lockf(AT_WORK, fcntl.LOCK_UN, 1, byte)


def write(event: Event, conn: Connection) -> None:
    """Take a moment, in which we may be killed; leave a line, which no rollback takes back, and the effect."""
    began = time.monotonic_ns()
    os.write(ATTEMPTS, f"{event.id} {began} {os.getpid()} {event.attempt}\n".encode())
    names = {"id": event.id, "replays": event.replays, "subject": event.subject, "began": began}
    conn.execute(INSERT, names)
    time.sleep(random.uniform(0, 0.002))


@on("torture.note")
def take_note(event: Event, conn: Connection) -> None:
    """Succeed."""
    with alone(event):
        write(event, conn)


@on("torture.raise")
def fail(event: Event, conn: Connection) -> None:
    """Raise at the first attempt, after the effect."""
    with alone(event):
        write(event, conn)
        if event.attempt == 1:
            raise ConnectionError("the torture's other service is down")


@on("torture.hide")
def hide(event: Event, conn: Connection) -> None:
    """Swallow the database's refusal at the first attempt."""
    with alone(event):
        write(event, conn)
        if event.attempt == 1:
            with suppress(DivisionByZero):
                conn.execute("SELECT 1 / 0")


@on("torture.later")
def put_off(event: Event, conn: Connection) -> None:
    """Ask for more time, every other attempt."""
    with alone(event):
        write(event, conn)
        if random.random() < 0.5:
            raise RetryLater(0.3)


@on("torture.kill")
def kill(event: Event, conn: Connection) -> None:
    """Die as by the kernel's hand when memory is short."""
    with alone(event):
        write(event, conn)
        os.kill(os.getpid(), signal.SIGKILL)


@on("torture.segfault")
def segfault(event: Event, conn: Connection) -> None:
    """Die in C."""
    with alone(event):
        write(event, conn)
        ctypes.string_at(0)


@on("torture.loop", timeout=1.0, max_attempts=TRIES["torture.loop"])
def loop(event: Event, conn: Connection) -> None:
    """Never end."""
    with alone(event):
        write(event, conn)
        while True:
            pass


@on("torture.exit", max_attempts=TRIES["torture.exit"])
def leave(event: Event, conn: Connection) -> None:
    """Ask the interpreter to end."""
    with alone(event):
        write(event, conn)
        sys.exit(3)
