"""The furthest state of each call, whichever provider tells it, and in whatever order its events come."""

from psycopg import Connection

from processor import Discard, Event, on

STATES = {
    "call.incoming": "ringing",
    "call.scheduled": "scheduled",
    "call.queued": "queued",
    "call.initiated": "initiated",
    "call.ringing": "ringing",
    "call.answered": "answered",
    "call.completed": "completed",
    "call.busy": "busy",
    "call.no_answer": "no_answer",
    "call.failed": "failed",
    "call.canceled": "canceled",
    "call.missed": "missed",
}


@on(*STATES)
def keep_state(event: Event, conn: Connection) -> None:
    """Move the call up to the event's state; one that is further already stays where it is."""
    if not event.subject_id:
        raise Discard("expected the id of a call, got an event without one")
    conn.execute(
        """
        INSERT INTO calls AS call (app_id, provider, call_id, state, occurred_at, webhook_event_id)
        VALUES (%s, %s, %s, %s, %s, %s)
        ON CONFLICT (app_id, provider, call_id) DO UPDATE
           SET state = excluded.state, occurred_at = excluded.occurred_at,
               webhook_event_id = excluded.webhook_event_id, updated_at = now()
         WHERE (call_rank(excluded.state), coalesce(excluded.occurred_at, '-infinity'))
             > (call_rank(call.state), coalesce(call.occurred_at, '-infinity'))
        """,
        (
            event.app_id, event.provider, event.subject_id, STATES[event.event_type], event.occurred_at, event.id,
        ),
    )  # fmt: skip
