"""The messages table: one row a message, in and out, whichever provider tells of it, in whatever order."""

from psycopg import Connection

from handlers.models import MESSAGE_STATES, MessageEvent
from handlers.progress import MESSAGE
from handlers.rows import Rows
from processor import Event

STATES = (*MESSAGE_STATES, "message.updated")
FACTS = ("direction", "from_number", "to_numbers", "text", "error_code", "delivery_result", "sent_at")
ROWS = Rows("messages", ("app_id", "provider", "message_id"), FACTS, MESSAGE)


def keep(event: Event, told: MessageEvent, conn: Connection) -> None:
    """Write what an event told of its message: the state moves up its rank only, and what is known is filled in."""
    ROWS.keep(event, told, ROWS.find(told, conn), conn)
