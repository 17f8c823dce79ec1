"""Our voice agent's events: ``{reminder_id, event_type, outcome}``, one of them a stage of a reminder's call.

Facts (the agent's "Webhook Configuration Guide"; tests/vectors/payloads-voice-agent.json): ``outcome`` has connected,
duration in seconds, customer_response and notes; older agents send other words in it, or leave it out.
"""

from handlers.models import CALL_STATES, CallEvent, Id, Number, Payload, Text, about, read
from processor import Event


class Outcome(Payload):
    """What became of the call."""

    connected: bool | None = None
    duration: Number = None
    customer_response: Text = None
    reason: Text = None
    notes: Text = None


class Told(Payload):
    """The body."""

    reminder_id: Id
    outcome: Outcome | None = None


def call_event(event: Event) -> CallEvent:
    """Return what the agent says of a reminder's call. Raises Invalid."""
    told = read(Told, event.payload, f"agent {event.provider_type or event.event_type}")
    outcome = told.outcome or Outcome()
    return CallEvent(
        **about(event),
        call_id=told.reminder_id,
        state=CALL_STATES.get(event.event_type),
        ended_reason=outcome.customer_response or outcome.reason,
        duration_seconds=outcome.duration,
        connected=outcome.connected,
        customer_response=outcome.customer_response or outcome.reason,
        notes=outcome.notes,
    )
