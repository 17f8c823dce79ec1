"""The handler of the crash test: one plain row an attempt that commits, so that a doubled effect would show."""

from psycopg import Connection

from processor import Event, on


@on("call.answered")
def count(event: Event, conn: Connection) -> None:
    conn.execute("INSERT INTO effects (event_id) VALUES (%s)", [event.event_id])
