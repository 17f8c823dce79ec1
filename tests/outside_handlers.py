"""Outside handlers for processors of their own: what they do is a line in the file that OUTSIDE_NOTES names."""

import os
import signal
import time
from collections.abc import Callable

from psycopg import Connection

from processor import Event, on


def note(event: Event, what: str) -> None:
    """Append a line: no transaction takes it back."""
    line = f"{event.id} {what} {os.getpid()} {time.monotonic():.6f} {event.key}\n"
    file = os.open(os.environ["OUTSIDE_NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


@on("call.completed", outside=True)
def push(event: Event) -> None:
    note(event, "began")
    time.sleep(float(event.payload.get("seconds", 0)))
    note(event, "ended")


@on("call.completed")
def take_note(event: Event, conn: Connection) -> None:
    conn.execute("INSERT INTO effects (event) VALUES (%s)", [event.id])


@on("call.ringing")
def take_note_at_once(event: Event, conn: Connection) -> None:
    conn.execute("INSERT INTO effects (event) VALUES (%s)", [event.id])


@on("poison.kill", outside=True)
def kill(event: Event) -> None:
    note(event, "began")
    os.kill(os.getpid(), signal.SIGKILL)


@on("poison.hang", outside=True, timeout=0.5, max_attempts=2)
def hang(event: Event) -> None:
    note(event, "began")
    time.sleep(600)


@on("poison.write", outside=True, timeout=0.5, max_attempts=2)
def write_for_ever(event: Event) -> Callable[[Connection], None]:
    note(event, "began")

    def write(conn: Connection) -> None:
        conn.execute("SELECT pg_sleep(600)")

    return write
