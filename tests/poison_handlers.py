"""Handlers that end their worker, or never end, and one that does no harm."""

import ctypes
import os
import signal

from psycopg import Connection

from processor import Event, on


@on("call.ringing")
def take_note(event: Event, conn: Connection) -> None:
    conn.execute("INSERT INTO effects (event) VALUES (%s)", [event.id])


@on("poison.exit")
def leave(event: Event, conn: Connection) -> None:
    os._exit(9)


@on("poison.kill")
def kill(event: Event, conn: Connection) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@on("poison.segfault")
def touch_nothing(event: Event, conn: Connection) -> None:
    ctypes.string_at(0)


@on("poison.loop", timeout=0.5, max_attempts=2)
def never_end(event: Event, conn: Connection) -> None:
    while True:
        pass


@on("poison.sleep", timeout=0.5, max_attempts=2, skip_after=60)
def sleep_in_the_database(event: Event, conn: Connection) -> None:
    conn.execute("SELECT pg_sleep(600)")


@on("poison.forever", timeout=600)
def sleep_on(event: Event, conn: Connection) -> None:
    conn.execute("SELECT pg_sleep(600)")


@on("batch.kill", batch=True)
def kill_with_others(events: list[Event], conn: Connection) -> None:
    conn.execute("INSERT INTO effects (event) SELECT unnest(%s::bigint[])", [[event.id for event in events]])
    if any(event.event_id == "bad" for event in events):
        os.kill(os.getpid(), signal.SIGKILL)


@on("batch.sleep", batch=True, timeout=0.5)
def sleep_with_others(events: list[Event], conn: Connection) -> None:
    conn.execute("INSERT INTO effects (event) SELECT unnest(%s::bigint[])", [[event.id for event in events]])
    if any(event.event_id == "bad" for event in events):
        conn.execute("SELECT pg_sleep(600)")
