"""Incoming calls and the call log, of Twilio: who called whom, when, how it ended.

The caller is answered at the door (the receiver's source twilio-voice); here the call becomes a row, and each status
callback moves it. Questions about calls are views: sql/migrations/0013_call_log.sql. How to: docs/incoming-calls.md.
"""

from psycopg import Connection

from handlers import calls
from handlers.providers import call_event
from processor import Event, on


@on(*calls.STATES, *calls.NOTES, provider="twilio")
def keep_call(event: Event, conn: Connection) -> None:
    """Keep what Twilio tells of a call."""
    calls.keep(event, call_event(event), conn)


@on("recording.completed", provider="twilio")
def keep_recording(event: Event, conn: Connection) -> None:
    """Put a recording to its call."""
    calls.announce_recording(event, conn)
