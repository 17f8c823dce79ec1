"""Reminders, what the voice agent and Twilio tell of them, and how their rows are looked at."""

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from tests.arrivals import arrive, form, sent
from tests.inbox import process

# What the agent says, and its outcome.
REACHED = {"connected": True, "duration": 45, "customer_response": "will_pay_today", "notes": "Confirmed"}
NOT_CONNECTED = {"connected": False, "duration": 0, "customer_response": "no_answer"}
CALL_ENDS = ["answered", "completed", "unreached", "failed"]
Told = tuple[str, dict[str, Any] | None]
ANSWERED: Told = ("call_answered", None)
COMPLETED: Told = ("call_completed", REACHED)
UNREACHED: Told = ("call_completed", NOT_CONNECTED)
FAILED: Told = ("call_failed", NOT_CONNECTED)

NUMBERS = count(1)
AT = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
TEN_MINUTES = timedelta(minutes=10)
TIMED_OUT = "Call timeout - no agent response"
ROW = "status, outcome, skip_reason, error_code, retry_count, next_retry_at"


def make(db, reminder="rem_1", **columns):
    """Insert a reminder whose call is dispatched."""
    values = {"reminder_id": reminder, "status": "in_progress", **columns}
    statement = f"INSERT INTO reminders ({', '.join(values)}) VALUES ({', '.join(['%s'] * len(values))})"
    db.execute(statement.encode(), list(values.values()))


def dispatch(db, reminder="rem_1"):
    db.execute("UPDATE reminders SET status = 'in_progress' WHERE reminder_id = %s", [reminder])


def tell(db, what, minute=None, reminder="rem_1", **columns):
    """Store an event of the agent, which happened so many minutes after AT; None: it tells no time. Return its id."""
    event_type, outcome = what
    body = {"reminder_id": reminder, "event_type": event_type, "event_id": f"told-{next(NUMBERS)}"}
    body |= {} if outcome is None else {"outcome": outcome}
    body |= {} if minute is None else {"occurred_at": (AT + timedelta(minutes=minute)).isoformat()}
    (event,) = arrive(db, "agent", sent(body), **columns)
    return event


def call_back(db, status, error=None, message="SM1"):
    """Store a status callback of Twilio."""
    fields = {"MessageSid": message, "MessageStatus": status, "To": "+15555550142", "From": "+15555550100"}
    (event,) = arrive(db, "twilio", form(fields | ({"ErrorCode": error} if error else {})))
    return event


def row(db, columns=ROW, reminder="rem_1"):
    (found,) = db.execute(f"SELECT {columns} FROM reminders WHERE reminder_id = %s".encode(), [reminder])
    return found if len(found) > 1 else found[0]


def silence(db):
    """Let what is expected be overdue: it was expected 10 minutes earlier."""
    moved = "UPDATE webhook_expectations SET armed_at = armed_at - %(by)s, due_at = due_at - %(by)s"
    db.execute(moved, {"by": TEN_MINUTES + timedelta(seconds=1)})


def time_out(db):
    silence(db)
    process(db)


def armed(db):
    """Return what is expected of which subject, and within which time."""
    return db.execute("SELECT event_type, subject, due_at - armed_at FROM webhook_expectations").fetchall()


def replay(db, event):
    db.execute("UPDATE webhook_events SET processed_at = NULL WHERE id = %s", [event])
    process(db)


EXPECTED = [("reminder.timeout", "reminder/rem_1", TEN_MINUTES)]
