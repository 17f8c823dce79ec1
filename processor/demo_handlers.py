"""One of the demo's troubles: a handler that fails once, and then succeeds."""

from psycopg import Connection

from processor import Event, on


@on("call.completed", provider="agent")
def tell_crm(event: Event, _conn: Connection) -> None:
    """Fail at the first attempt where the delivery's notes say so (receiver/tour.py)."""
    outcome = event.payload.get("outcome")
    if isinstance(outcome, dict) and outcome.get("notes") == "demo: fails once" and event.attempt == 1:
        raise ConnectionError("the demo's CRM is down at the first attempt")
