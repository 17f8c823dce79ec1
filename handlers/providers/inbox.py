"""Events that the inbox makes itself, of calls: what came under another subject, and what did not come at all.

``call.recording`` is a provider's recording, put to its call; ``call.timeout`` an end that nobody told.
Their payload names the call and whose it is: ``{"provider", "call_id"}``, and what else there is of CallEvent.
"""

from handlers.models import CALL_STATES, CallEvent, about, read
from processor import Event


def call_event(event: Event) -> CallEvent:
    """Return what we said of the call. Raises Invalid."""
    fields = event.payload if isinstance(event.payload, dict) else {}
    known = {name: value for name, value in fields.items() if name in CallEvent.model_fields}
    said = {**known, **about(event), "provider": fields.get("provider"), "state": CALL_STATES.get(event.event_type)}
    return read(CallEvent, said, f"inbox {event.event_type}")
