"""One handler for whatever is sent: one row an event, without a constraint, so that a doubled effect would show."""

from psycopg import Connection

from processor import Discard, Event, on
from receiver.samples import TYPES


@on(*sorted({event_type for types in TYPES.values() for event_type in types} - {"other"}))
def note(event: Event, conn: Connection) -> None:
    if isinstance(event.payload, dict) and event.payload.get("poison"):
        raise Discard("poison")
    conn.execute("INSERT INTO effects (event) VALUES (%s)", [event.id])
