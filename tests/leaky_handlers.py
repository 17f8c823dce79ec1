"""Handlers that fail with what they were given in their exception, as handlers do."""

from psycopg import Connection
from pydantic import BaseModel

from processor import Discard, Event, on


class Number(BaseModel):
    """Wants a number where a delivery has anything."""

    value: int


@on("call.ringing", max_attempts=1)
def raise_it(event: Event, conn: Connection) -> None:
    raise ValueError(f"can't place {event.payload} of {event.body!r} from {event.headers}")


@on("call.answered", max_attempts=1)
def look_it_up(event: Event, conn: Connection) -> None:
    raise KeyError(str(event.payload))


@on("call.completed", max_attempts=1)
def insert_it(event: Event, conn: Connection) -> None:
    conn.execute("INSERT INTO leaky (value) VALUES (%s)", [str(event.payload)])


@on("call.failed", max_attempts=1)
def cast_it(event: Event, conn: Connection) -> None:
    conn.execute("SELECT %s::uuid", [str(event.payload)])


@on("call.incoming", "message.received", max_attempts=1)
def validate_it(event: Event, conn: Connection) -> None:
    Number.model_validate({"value": str(event.payload)})


@on("other", "reminder.sent", max_attempts=1)
def discard_it(event: Event, conn: Connection) -> None:
    raise Discard(f"{event.subject}: {event.payload}")
