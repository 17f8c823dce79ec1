"""The furthest state of each message, in and out, whichever provider tells it."""

from psycopg import Connection

from processor import Discard, Event, on

STATES = {
    "message.queued": "queued",
    "message.sent": "sent",
    "message.delivered": "delivered",
    "message.undelivered": "undelivered",
    "message.failed": "failed",
    "message.canceled": "canceled",
    "message.read": "read",
    "message.received": "received",
}


@on(*STATES)
def keep_state(event: Event, conn: Connection) -> None:
    """Move the message up to the event's state; one that is further already stays where it is."""
    if not event.subject_id:
        raise Discard("expected the id of a message, got an event without one")
    conn.execute(
        """
        INSERT INTO messages AS message (app_id, provider, message_id, state, occurred_at, webhook_event_id)
        VALUES (%s, %s, %s, %s, %s, %s)
        ON CONFLICT (app_id, provider, message_id) DO UPDATE
           SET state = excluded.state, occurred_at = excluded.occurred_at,
               webhook_event_id = excluded.webhook_event_id, updated_at = now()
         WHERE (message_rank(excluded.state), coalesce(excluded.occurred_at, '-infinity'))
             > (message_rank(message.state), coalesce(message.occurred_at, '-infinity'))
        """,
        (
            event.app_id, event.provider, event.subject_id, STATES[event.event_type], event.occurred_at, event.id,
        ),
    )  # fmt: skip
