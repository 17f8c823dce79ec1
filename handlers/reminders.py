"""Payment reminders: what the voice agent and Twilio's SMS callbacks make of them.

The backend makes a reminder (pending), dispatches its call or SMS (in_progress; external_id is the MessageSid), and
calls again what is due by next_retry_at. A call that is in progress and tells nothing for 10 minutes times out: a
trigger of sql/migrations/0015_reminders.sql expects its next event, so that it holds for whoever changes the row, in
SQL too. How to: docs/payment-reminders.md.
"""

from datetime import timedelta

from psycopg import Connection
from psycopg.types.json import Jsonb

from handlers import messages
from handlers.models import CallEvent
from handlers.providers import call_event, message_event
from processor import Discard, Event, on

RETRY_WAIT = timedelta(hours=1)
RETRIES_MAX = 3
NOT_REACHED = ("no_answer", "no answer", "not_answered", "busy", "voicemail")  # customer_response: nobody was spoken to
TIMED_OUT = "Call timeout - no agent response"

RANKS = {"processing": 0, "pending": 1, "failed": 2, "completed": 3}

# Whether an event counts: the last one by the agent's clock does, so that any order of them ends as the same row. At
# one time, and without times, it is the higher of RANKS, and of one rank what was stored later. A row in progress was
# dispatched since its last event, which, replayed, says nothing of the new call. A timeout is nobody's word.
COUNTS = """
CASE WHEN status = 'in_progress' THEN coalesce(%(occurred_at)s > last_event_at, %(event)s > webhook_event_id, true)
     WHEN webhook_event_id = %(event)s THEN status <> 'failed' OR timed_out_by IS NULL
     WHEN %(occurred_at)s <> last_event_at THEN %(occurred_at)s > last_event_at
     ELSE %(rank)s >= CASE WHEN status = 'completed' THEN 3
                           WHEN status = 'failed' AND timed_out_by IS NULL THEN 2
                           WHEN status = 'pending' AND outcome IS NOT NULL THEN 1 ELSE 0 END
          AND coalesce(%(occurred_at)s = last_event_at, %(event)s > webhook_event_id, true) END
"""
ANSWERED = f"""
UPDATE reminders
   SET status = 'processing', outcome = NULL, skip_reason = NULL, next_retry_at = NULL,
       last_event_at = %(occurred_at)s, webhook_event_id = %(event)s, timed_out_by = NULL,
       retried_by = array_remove(retried_by, CASE WHEN status = 'failed' THEN timed_out_by END)
 WHERE (app_id, reminder_id) = (%(app_id)s, %(call_id)s) AND {COUNTS}
"""  # noqa: S608 - the condition above
# One that doesn't count for the state is still a call that reached nobody.
ENDED = f"""
UPDATE reminders AS reminder
   SET (status, outcome, skip_reason, last_event_at, webhook_event_id, timed_out_by, retried_by, next_retry_at) = (
       SELECT CASE WHEN counts AND %(status)s <> 'pending' THEN %(status)s
                   WHEN NOT counts AND status <> 'pending' THEN status
                   WHEN cardinality(retried) > %(most)s THEN 'failed' ELSE 'pending' END,
              CASE WHEN counts THEN %(outcome)s ELSE outcome END,
              CASE WHEN counts THEN %(skip_reason)s ELSE skip_reason END,
              CASE WHEN counts THEN %(occurred_at)s ELSE last_event_at END,
              CASE WHEN counts THEN %(event)s ELSE webhook_event_id END,
              CASE WHEN NOT counts THEN timed_out_by END,
              retried,
              CASE WHEN cardinality(retried) > %(most)s THEN NULL
                   WHEN NOT counts THEN next_retry_at
                   WHEN %(retries)s THEN %(at)s + %(wait)s END
         FROM (SELECT {COUNTS} AS counts) AS event
        CROSS JOIN LATERAL (
            -- A call that timed out and ends after all is one call.
            SELECT array_remove(array_remove(retried_by, CASE WHEN NOT %(retries)s THEN %(event)s::bigint END),
                                CASE WHEN counts AND status = 'failed' THEN timed_out_by END)
                   || CASE WHEN %(retries)s AND NOT %(event)s = ANY (retried_by) THEN ARRAY[%(event)s::bigint] END
                   AS retried) AS counted)
 WHERE (app_id, reminder_id) = (%(app_id)s, %(call_id)s)
"""  # noqa: S608 - the condition above
# What is expected again since it was due has been heard of, or dispatched.
TIMEOUT = """
UPDATE reminders AS reminder
   SET status = 'failed', skip_reason = %(skip_reason)s, timed_out_by = %(event)s,
       retried_by = retried_by || %(event)s::bigint,
       next_retry_at = CASE WHEN retry_count < %(most)s THEN %(at)s + %(wait)s END
 WHERE (app_id, reminder_id) = (%(app_id)s, %(reminder_id)s) AND status IN ('in_progress', 'processing')
   AND NOT EXISTS (SELECT FROM webhook_expectations AS expected
                    WHERE (expected.app_id, expected.subject, expected.event_type)
                          = (reminder.app_id, %(subject)s, 'reminder.timeout')
                      AND expected.armed_at > %(at)s)
"""
DELIVERED = """
UPDATE reminders AS reminder
   SET status = CASE WHEN message.state IN ('delivered', 'read') THEN 'completed' ELSE 'failed' END,
       error_code = message.error_code
  FROM messages AS message
 WHERE (message.app_id, message.provider, message.message_id) = (%(app_id)s, 'twilio', %(message_id)s)
   AND message.state IN ('delivered', 'read', 'failed', 'undelivered')
   AND (reminder.app_id, reminder.external_id) = (message.app_id, message.message_id)
"""


@on("call.answered", provider="agent")
def answer_reminder(event: Event, conn: Connection) -> None:
    """Say that the reminder's call was answered; of a call that has its result already this is late."""
    told = call_event(event)
    _check_known(told, conn)
    conn.execute(ANSWERED.encode(), {**told.model_dump(), "event": event.id, "rank": RANKS["processing"]})


@on("call.completed", "call.failed", provider="agent")
def end_reminder(event: Event, conn: Connection) -> None:
    """Close the reminder; one whose call reached nobody is pending again, for another call at next_retry_at."""
    told = call_event(event)
    _check_known(told, conn)
    reached = told.connected is not False and told.customer_response not in NOT_REACHED
    status = "failed" if event.event_type == "call.failed" else "completed" if reached else "pending"
    names = {
        **told.model_dump(),
        "event": event.id,
        "at": event.occurred_at or event.received_at,
        "status": status,
        "rank": RANKS[status],
        "retries": status == "pending",
        "outcome": Jsonb(event.payload.get("outcome") or {}),
        "skip_reason": told.customer_response if status == "failed" else None,
        "wait": RETRY_WAIT,
        "most": RETRIES_MAX,
    }
    conn.execute(ENDED.encode(), names)


@on("reminder.timeout", provider="inbox")
def time_out(event: Event, conn: Connection) -> None:
    """Fail a reminder whose call went silent, and have it tried again; unless its result has come since."""
    names = {
        "app_id": event.app_id,
        "reminder_id": event.subject_id,
        "subject": event.subject,
        "event": event.id,
        "skip_reason": TIMED_OUT,
        "at": event.occurred_at,
        "wait": RETRY_WAIT,
        "most": RETRIES_MAX,
    }
    conn.execute(TIMEOUT, names)


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


def _check_known(told: CallEvent, conn: Connection) -> None:
    known = "SELECT FROM reminders WHERE (app_id, reminder_id) = (%s, %s) FOR NO KEY UPDATE"
    if conn.execute(known, (told.app_id, told.call_id)).fetchone() is None:
        raise Discard(f"no reminder {told.call_id!r} of app {told.app_id!r}; insert it before its call, and replay")
