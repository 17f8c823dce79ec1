"""What Twilio and Vapi tell of calls, as events of the inbox that the receiver's own reading has named.

The systems are those of the handlers package, in the order in which `processor run` has them.
"""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import urlencode

import pytest
from psycopg import Connection
from psycopg.rows import dict_row

from processor import Event, registry
from processor.claim import read
from receiver.delivery import Delivery
from tests.arrivals import arrive
from tests.http_receiver import FORM, JSON
from tests.receiver_fixtures import BASE_URL

# At import, when no test has put other handlers in their place.
registry.load(["handlers"])
SYSTEMS = [handler for handler in registry.HANDLERS if handler.function.__module__.startswith("handlers.")]

START = datetime(2026, 11, 20, 10, tzinfo=UTC)
SURVEY = "call_id=att-1&campaign_id=camp-1&contact_id=cont-1"
# The order in which Twilio numbers them; an end has the next number, whichever came before.
SEQUENCE = {"queued": 0, "initiated": 0, "ringing": 1, "in-progress": 2}


def at(seconds: float) -> datetime:
    """Return the time so many seconds after the first call began."""
    return START + timedelta(seconds=seconds)


@pytest.fixture
def systems(monkeypatch):
    """Have the systems' handlers registered, and no others; the list, to be added to."""
    handlers = list(SYSTEMS)
    for module in ("registry", "breakers", "watched"):
        monkeypatch.setattr(f"processor.{module}.HANDLERS", handlers)
    return handlers


def twilio_form(status: str | None, seconds: float = 0, *, call: str = "CA1", **fields: Any) -> dict[str, str]:
    """Return a status callback's form; without a status, whatever the fields make it."""
    form = {"CallSid": call, "AccountSid": "AC1", "From": "+15555550100", "To": "+15555550142",
            "Direction": "outbound-api"}  # fmt: skip
    if status is not None:
        form |= {
            "CallStatus": status,
            "Timestamp": format_datetime(at(seconds)),
            "CallbackSource": "call-progress-events",
            "SequenceNumber": str(SEQUENCE.get(status, 3)),
        }
    return {**form, **{name: str(value) for name, value in fields.items()}}


def tell_twilio(
    conn: Connection, status: str | None, seconds: float = 0, *, query: str = "", app_id: str = "default", **fields: Any
) -> int:
    """Store a callback; return its event's id."""
    target = "/webhooks/telephony/events" + (f"?{query}" if query else "")
    body = urlencode(twilio_form(status, seconds, **fields)).encode()
    (identifier,) = arrive(conn, "twilio", Delivery("POST", BASE_URL, target, FORM, body), app_id=app_id)
    return identifier


def vapi_message(kind: str, seconds: float = 0, *, call: str = "v1", **fields: Any) -> dict[str, Any]:
    """Return a server message; fields of its call are those of ``about``."""
    about = {"id": call, "type": "outboundPhoneCall", "customer": {"number": "+15555550142"}, **fields.pop("about", {})}
    told = {"type": kind, "timestamp": round(at(seconds).timestamp() * 1000), "call": about, **fields}
    return {"message": told}


def tell_vapi(conn: Connection, message: Any, *, app_id: str = "default") -> int:
    """Store a message, whatever it is; return its event's id."""
    body = json.dumps(message).encode()
    (identifier,) = arrive(conn, "vapi", Delivery("POST", BASE_URL, "/api/webhooks/vapi", JSON, body), app_id=app_id)
    return identifier


def vapi_status(conn: Connection, status: str, seconds: float = 0, **fields: Any) -> int:
    return tell_vapi(conn, vapi_message("status-update", seconds, status=status, **fields))


def vapi_flat(conn: Connection, kind: str, *, call: str = "v1", **about: Any) -> int:
    """Store a message in the form of the seed document: ``{"type", "call"}``."""
    return tell_vapi(conn, {"type": kind, "call": {"id": call, **about}})


def event(conn: Connection, identifier: int) -> Event:
    """Return an event as its handlers get it."""
    (found,) = read(conn, [identifier])
    return found


def row(conn: Connection, query: str, *names: Any) -> dict[str, Any]:
    """Return the one row that a query finds."""
    (found,) = rows(conn, query, *names)
    return found


def rows(conn: Connection, query: str, *names: Any) -> list[dict[str, Any]]:
    return conn.cursor(row_factory=dict_row).execute(query.encode(), names).fetchall()


def changes(conn: Connection) -> list[tuple[Any, ...]]:
    """Return what the log of calls says of states, in the order in which it was written."""
    return conn.execute("SELECT state, from_state, change FROM call_events ORDER BY id").fetchall()
