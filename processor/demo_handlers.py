"""Two of the demo's troubles: a handler that fails once and then succeeds, and one that gives its event up."""

from psycopg import Connection

from processor import Discard, Event, on


@on("call.completed", provider="agent")
def settle_reminder(event: Event, _conn: Connection) -> None:
    """Behave as the delivery's notes say (receiver/tour.py); any other delivery is settled at once."""
    outcome = event.payload.get("outcome")
    notes = outcome.get("notes") if isinstance(outcome, dict) else None
    if notes == "demo: fails once" and event.attempt == 1:
        raise ConnectionError("the demo's CRM is down at the first attempt")
    if notes == "demo: no such reminder":
        raise Discard(f"no reminder {event.subject_id!r}")
