"""The messages table: one row a message, in and out, whichever provider tells of it, in whatever order."""

from psycopg import Connection

from handlers.models import MESSAGE_STATES, MessageEvent
from processor import Event

STATES = (*MESSAGE_STATES, "message.updated")
FACTS = ("direction", "from_number", "to_numbers", "text", "error_code", "delivery_result", "sent_at")
KEEP = f"""
INSERT INTO messages AS message (app_id, provider, message_id, state, occurred_at, webhook_event_id,
                                 {", ".join(FACTS)})
VALUES (%(app_id)s, %(provider)s, %(message_id)s, coalesce(%(state)s, 'queued'), %(occurred_at)s, %(event)s,
        {", ".join(f"%({fact})s" for fact in FACTS)})
ON CONFLICT (app_id, provider, message_id) DO UPDATE
   SET (state, occurred_at, webhook_event_id, {", ".join(FACTS)}) = (
       SELECT CASE WHEN moved THEN excluded.state ELSE message.state END,
              CASE WHEN moved THEN excluded.occurred_at ELSE message.occurred_at END,
              CASE WHEN moved THEN excluded.webhook_event_id ELSE message.webhook_event_id END,
              {", ".join(f"coalesce(CASE WHEN moved THEN excluded.{f} END, message.{f}, excluded.{f})" for f in FACTS)}
         FROM (SELECT message_change(message.state, message.occurred_at, %(state)s, %(occurred_at)s) = 'moved'
                  OR (message.webhook_event_id = %(event)s AND %(state)s::text IS NOT NULL
                  AND message_rank(%(state)s) >= message_rank(message.state))
              ) AS change (moved))
"""  # noqa: S608 - the names above


def keep(event: Event, told: MessageEvent, conn: Connection) -> None:
    """Write what an event told of its message: the state moves up its rank only, and what is known is filled in."""
    conn.execute(KEEP.encode(), {**told.model_dump(), "event": event.id})
