"""Handlers of the order test: one in five has to wait at first; each attempt that commits leaves when it ran."""

from psycopg import Connection

from processor import Event, RetryLater, on


@on("call.ringing")
def take_note(event: Event, conn: Connection) -> None:
    # A sequence is not rolled back, so the coin falls the other way when the event comes again.
    (toss,) = conn.execute("SELECT nextval('coin')").fetchone() or (0,)
    if toss % 5 == 0:
        raise RetryLater(0.05)
    conn.execute(
        "INSERT INTO effects (event, subject, began) VALUES (%s, %s, clock_timestamp())", [event.id, event.subject]
    )
    conn.execute("SELECT pg_sleep(0.001)")
    conn.execute("UPDATE effects SET ended = clock_timestamp() WHERE event = %s", [event.id])
