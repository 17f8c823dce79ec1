"""Payment reminders: what the voice agent and Twilio's SMS callbacks make of them.

The backend makes a reminder (pending), dispatches its call or SMS (in_progress; external_id is the MessageSid), and
calls again what is due by next_retry_at. A call that is in progress and tells nothing for 10 minutes times out: a
trigger of sql/migrations/0015_reminders.sql expects its next event, so that it holds for whoever changes the row, in
SQL too. How to: docs/payment-reminders.md.

A handler reads the row and locks it, a pure function says what the event makes of it, and the row is written again.
"""

import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal

from psycopg import Connection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from handlers import messages
from handlers.models import CallEvent
from handlers.providers import call_event, message_event
from processor import Discard, Event, on

RETRY_WAIT = timedelta(hours=1)
RETRIES_MAX = 3
NOT_REACHED = ("no_answer", "no answer", "not_answered", "busy", "voicemail")  # customer_response: nobody was spoken to
TIMED_OUT = "Call timeout - no agent response"

Status = Literal["pending", "in_progress", "processing", "completed", "failed"]
STATUSES: dict[str, Status] = {"call.answered": "processing", "call.completed": "completed", "call.failed": "failed"}
# Of what is told at one time, the highest counts.
RANKS: dict[Status, int] = {"in_progress": 0, "processing": 0, "pending": 1, "failed": 2, "completed": 3}

READ = """
SELECT app_id, reminder_id, status, outcome, skip_reason, retried_by, timed_out_by, next_retry_at, last_event_at,
       webhook_event_id
  FROM reminders
 WHERE (app_id, reminder_id) = (%s, %s)
   FOR NO KEY UPDATE
"""
WRITE = """
UPDATE reminders
   SET status = %(status)s, outcome = %(outcome)s, skip_reason = %(skip_reason)s, retried_by = %(retried_by)s,
       timed_out_by = %(timed_out_by)s, next_retry_at = %(next_retry_at)s, last_event_at = %(last_event_at)s,
       webhook_event_id = %(webhook_event_id)s
 WHERE (app_id, reminder_id) = (%(app_id)s, %(reminder_id)s)
"""
EXPECTED = "SELECT FROM webhook_expectations WHERE (app_id, subject, event_type) = (%s, %s, %s)"
DELIVERED = """
UPDATE reminders AS reminder
   SET status = CASE WHEN message.state IN ('delivered', 'read') THEN 'completed' ELSE 'failed' END,
       error_code = message.error_code
  FROM messages AS message
 WHERE (message.app_id, message.provider, message.message_id) = (%(app_id)s, 'twilio', %(message_id)s)
   AND message.state IN ('delivered', 'read', 'failed', 'undelivered')
   AND (reminder.app_id, reminder.external_id) = (message.app_id, message.message_id) AND reminder.channel = 'sms'
"""


@dataclass(frozen=True)
class Reminder:
    """What the events of its calls may change of a row of reminders; the migration describes the columns."""

    app_id: str
    reminder_id: str
    status: Status
    outcome: Any
    skip_reason: str | None
    retried_by: list[int]
    timed_out_by: int | None
    next_retry_at: datetime | None
    last_event_at: datetime | None
    webhook_event_id: int | None

    @property
    def timed_out(self) -> bool:
        """Tell whether it is failed by silence alone: nobody's word, so whatever comes after all counts."""
        return self.status == "failed" and self.timed_out_by is not None

    @property
    def rank(self) -> int:
        """How much was told of its last call; 0 for nothing yet, or no more than that it was answered."""
        untold = self.timed_out or (self.status == "pending" and self.outcome is None)
        return 0 if untold else RANKS[self.status]


@dataclass(frozen=True)
class Told:
    """What the agent told with an event.

    status: that the reminder has by it; pending, to be called again, where the call reached nobody. occurred_at: by
    the agent's clock, None where it sends no time. at: the same, or else when it was received.
    """

    event: int
    status: Status
    occurred_at: datetime | None
    at: datetime
    outcome: dict[str, Any]
    skip_reason: str | None


@on(*STATUSES, provider="agent")
def follow_call(event: Event, conn: Connection) -> None:
    """Say that the reminder's call was answered, or how it ended."""
    call = call_event(event)
    reminder = _read(call.app_id, call.call_id, conn)
    if reminder is None:
        raise Discard(f"no reminder {call.call_id!r} of app {call.app_id!r}; insert it before its call, and replay")
    told = _told(event, call)
    _write(answered(reminder, told) if told.status == "processing" else ended(reminder, told), conn)


@on("reminder.timeout", provider="inbox")
def time_out(event: Event, conn: Connection) -> None:
    """Fail a reminder whose call went silent, and have it tried again; unless its result has come since."""
    reminder = _read(event.app_id, event.subject_id, conn)
    # Expected again: since this was due, it has been heard of or dispatched.
    expected = conn.execute(EXPECTED, (event.app_id, event.subject, event.event_type)).fetchone() is not None
    if reminder is not None and not expected:
        _write(timed_out(reminder, event.id, event.occurred_at or event.received_at), conn)


@on(*messages.STATES, provider="twilio")
def follow_message(event: Event, conn: Connection) -> None:
    """Keep what Twilio tells of a message; a reminder that was sent with it ends with it."""
    told = message_event(event)
    messages.keep(event, told, conn)
    conn.execute(DELIVERED, {"app_id": told.app_id, "message_id": told.message_id})


@on("reminder.sent", provider="inbox")
def catch_up(event: Event, conn: Connection) -> None:
    """See what became of a message whose callback came before its MessageSid was written to the reminder."""
    conn.execute(DELIVERED, {"app_id": event.app_id, "message_id": event.payload["external_id"]})


def answered(reminder: Reminder, told: Told) -> Reminder:
    """Return the reminder with its call under way, and no result; as it was, if the event doesn't count."""
    if not counts(reminder, told):
        return reminder
    return replace(_heard(reminder, told), status="processing", outcome=None, skip_reason=None, next_retry_at=None)


def ended(reminder: Reminder, told: Told) -> Reminder:
    """Return the reminder with its call's result, if the event counts.

    Even if it doesn't, a call that reached nobody is one of those after which it was to be called again.
    """
    again = told.status == "pending"
    if counts(reminder, told):
        reminder = replace(
            _heard(reminder, told),
            status=told.status,
            outcome=told.outcome,
            skip_reason=told.skip_reason,
            next_retry_at=told.at + RETRY_WAIT if again else None,
        )
    # One that is not to be called again may have been before: replayed, it is understood otherwise.
    return _unreached(reminder, told.event) if again else _without(reminder, told.event)


def timed_out(reminder: Reminder, event: int, at: datetime) -> Reminder:
    """Return the reminder failed by *event*, a timeout that was due *at*; as it was, if no call of it is under way."""
    if reminder.status not in ("in_progress", "processing"):
        return reminder
    failed = replace(
        reminder, status="failed", skip_reason=TIMED_OUT, timed_out_by=event, next_retry_at=at + RETRY_WAIT
    )
    return _unreached(failed, event)


def counts(reminder: Reminder, told: Told) -> bool:
    """Tell whether the event says how the reminder stands: the last one does, in whatever order they come.

    The last by the agent's clock; at one time that of the higher rank, and of one rank the one stored later. Without
    times it has to be stored later and not to rank lower. A reminder in progress was dispatched since its last event,
    so what happened by then is of the call before.
    """
    if told.event == reminder.webhook_event_id:  # replayed, and perhaps understood otherwise
        return reminder.status != "in_progress" and not reminder.timed_out
    if told.occurred_at is None or reminder.last_event_at is None:
        return told.event > (reminder.webhook_event_id or 0) and RANKS[told.status] >= reminder.rank
    if told.occurred_at != reminder.last_event_at or reminder.status == "in_progress":
        return told.occurred_at > reminder.last_event_at
    return (RANKS[told.status], told.event) > (reminder.rank, reminder.webhook_event_id or 0)


def _heard(reminder: Reminder, told: Told) -> Reminder:
    # A call that timed out and tells something after all is one call.
    reminder = _without(reminder, reminder.timed_out_by) if reminder.timed_out else reminder
    return replace(reminder, timed_out_by=None, last_event_at=told.occurred_at, webhook_event_id=told.event)


def _unreached(reminder: Reminder, event: int) -> Reminder:
    """Have the event, once, among those of calls that reached nobody; too many of them, and it isn't called again."""
    reminder = replace(reminder, retried_by=sorted({*reminder.retried_by, event}))
    if len(reminder.retried_by) <= RETRIES_MAX:
        return reminder
    return replace(reminder, status="failed" if reminder.status == "pending" else reminder.status, next_retry_at=None)


def _without(reminder: Reminder, event: int | None) -> Reminder:
    return replace(reminder, retried_by=[other for other in reminder.retried_by if other != event])


def _told(event: Event, call: CallEvent) -> Told:
    status = STATUSES[event.event_type]
    if status == "completed" and (call.connected is False or call.customer_response in NOT_REACHED):
        status = "pending"
    return Told(
        event=event.id,
        status=status,
        occurred_at=event.occurred_at,
        at=event.occurred_at or event.received_at,
        outcome=event.payload.get("outcome") or {},
        skip_reason=call.customer_response if status == "failed" else None,
    )


def _read(app_id: str, reminder_id: str, conn: Connection) -> Reminder | None:
    return conn.cursor(row_factory=class_row(Reminder)).execute(READ, (app_id, reminder_id)).fetchone()


def _write(reminder: Reminder, conn: Connection) -> None:
    """Write the row; where nothing changed, a trigger of the table leaves it as it was."""
    outcome = None if reminder.outcome is None else Jsonb(reminder.outcome, dumps=partial(json.dumps, default=str))
    conn.execute(WRITE, {**asdict(reminder), "outcome": outcome})
