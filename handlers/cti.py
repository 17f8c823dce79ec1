"""Dialpad CTI: the calls that agents see ring, and the messages beside them.

What an agent's screen shows is the view cti_calls (sql/migrations/0014_cti.sql), where the legs of one call are joined.
How to: docs/dialpad-cti.md.
"""

from psycopg import Connection

from handlers import calls, messages
from handlers.providers import call_event, message_event
from processor import Event, on


@on(*calls.STATES, *calls.NOTES, "recording.completed", "transcript.final", "call.report", provider="dialpad")
def keep_call(event: Event, conn: Connection) -> None:
    """Keep what Dialpad tells of a leg: ringing, connected, hung up, missed, recorded, left a voicemail."""
    calls.keep(event, call_event(event), conn)


@on(*messages.STATES, provider="dialpad")
def keep_message(event: Event, conn: Connection) -> None:
    """Keep what Dialpad tells of a message, and its delivery's result."""
    messages.keep(event, message_event(event), conn)
