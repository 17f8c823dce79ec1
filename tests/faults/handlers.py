"""Handlers of the fault tests: each attempt leaves a line in the file $TRACE, which outlives rollback and death."""

import os
import signal
import time
from pathlib import Path

from psycopg import Connection

from processor import Event, on

TRACE = Path(os.environ["TRACE"])


def begin(event: Event) -> bool:
    """Leave the line, and tell whether it is the first of this event."""
    with TRACE.open("a+") as file:
        file.seek(0)
        first = not any(line.split()[0] == str(event.id) for line in file)
        file.write(f"{event.id} {os.getpid()} {event.attempt} {event.key}\n")
    return first


@on("fault.note")
def take_note(event: Event, conn: Connection) -> None:
    begin(event)
    conn.execute("INSERT INTO effects (event) VALUES (%s)", [event.id])


@on("fault.die_once")
def die_once(event: Event, conn: Connection) -> None:
    first = begin(event)
    conn.execute("INSERT INTO effects (event) VALUES (%s)", [event.id])
    if first:
        os.kill(os.getpid(), signal.SIGKILL)


@on("fault.sleep_once")
def sleep_once(event: Event, conn: Connection) -> None:
    first = begin(event)
    conn.execute("INSERT INTO effects (event) VALUES (%s)", [event.id])
    if first:
        time.sleep(600)


@on("fault.query_once")
def query_once(event: Event, conn: Connection) -> None:
    first = begin(event)
    conn.execute("INSERT INTO effects (event) VALUES (%s)", [event.id])
    if first:
        conn.execute("SELECT pg_sleep(600)")


@on("fault.wait_for_a_file")
def wait_for_a_file(event: Event, conn: Connection) -> None:
    begin(event)
    conn.execute("INSERT INTO effects (event) VALUES (%s)", [event.id])
    while not TRACE.with_suffix(".go").exists():
        time.sleep(0.02)


@on("fault.eat_memory")
def eat_memory(event: Event, conn: Connection) -> None:
    begin(event)
    eaten = []
    while True:
        eaten.append(bytearray(os.urandom(1 << 20)))


@on("fault.fail_once")
def fail_once(event: Event, conn: Connection) -> None:
    if begin(event):
        raise ConnectionError
    conn.execute("INSERT INTO effects (event) VALUES (%s)", [event.id])


@on("fault.forwards", "fault.backwards")
def lock_two_rows(event: Event, conn: Connection) -> None:
    begin(event)
    first, second = (1, 2) if event.event_type == "fault.forwards" else (2, 1)
    conn.execute("UPDATE counters SET n = n + 1 WHERE id = %s", [first])
    while len(TRACE.read_text().splitlines()) < 2:  # the other has begun, too
        time.sleep(0.02)
    time.sleep(0.2)
    conn.execute("UPDATE counters SET n = n + 1 WHERE id = %s", [second])
    conn.execute("INSERT INTO effects (event) VALUES (%s)", [event.id])
