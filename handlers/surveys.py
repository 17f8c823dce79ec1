"""Survey campaigns: what Twilio's callbacks mean for an attempt, its contact and its dialogue.

The application places a call with the status callback
``/webhooks/telephony/events?call_id=...&campaign_id=...&contact_id=...``. An attempt is the application's call_id; what
it holds of the call follows the calls table. The survey's own result is the dialogue orchestrator's to write: here only
calls that reached nobody have an outcome. How to: docs/survey-campaigns.md.
"""

import json
import os
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from psycopg import Connection

from handlers import calls
from handlers.models import CallEvent
from handlers.post import check_url, post
from handlers.providers import call_event
from handlers.signing import standard_webhooks_headers
from processor import Event, emit, on

DIALOGUE_URL = os.environ.get("DIALOGUE_URL", "").strip()
DIALOGUE_SECRET = os.environ.get("DIALOGUE_SECRET", "").strip()
if DIALOGUE_URL and not DIALOGUE_SECRET:
    raise ValueError("DIALOGUE_URL is set and DIALOGUE_SECRET is not; set it to what the orchestrator verifies with")
if DIALOGUE_URL:
    try:
        check_url(DIALOGUE_URL)
    except ValueError as error:
        raise ValueError(f"DIALOGUE_URL: {error}") from error
POST_SECONDS = 10.0

BEGIN = """
WITH contact AS (
    INSERT INTO contacts (app_id, contact_id, campaign_id)
    SELECT %(app_id)s, %(contact_id)s::text, %(campaign_id)s WHERE %(contact_id)s::text IS NOT NULL
    ON CONFLICT DO NOTHING
)
INSERT INTO call_attempts (app_id, call_id, provider, provider_call_id, campaign_id, contact_id)
VALUES (%(app_id)s, coalesce(%(attempt_id)s, %(call_id)s), %(provider)s, %(call_id)s, %(campaign_id)s, %(contact_id)s)
ON CONFLICT DO NOTHING
"""
# What the attempt holds of its call is the call's and its log's: whatever order the events came in, it ends as the
# same. An outcome that telephony gave is telephony's to take back, where a call turns out to have been answered; the
# orchestrator's is kept, though the call's end was never told, or the end was a failure.
FOLLOW = """
WITH before AS MATERIALIZED (
    SELECT call_id, outcome FROM call_attempts
     WHERE (app_id, provider, provider_call_id) = (%(app_id)s, %(provider)s, %(call_id)s)
       FOR NO KEY UPDATE
)
UPDATE call_attempts AS attempt
   SET outcome = CASE WHEN attempt.outcome IN ('COMPLETED', 'REFUSED') THEN attempt.outcome
                      WHEN call.state = 'no_answer' THEN 'NO_ANSWER'
                      WHEN call.state = 'busy' THEN 'BUSY'
                      WHEN call.state IN ('failed', 'canceled', 'timeout') THEN 'FAILED' END,
       answered_by = call.answered_by, duration_seconds = call.duration_seconds,
       recording_url = call.recording_url, error_code = call.error_code,
       processed_types = ARRAY(
           SELECT unnest(attempt.processed_types)
            UNION SELECT event_type FROM call_events AS event
                   WHERE (event.app_id, event.provider, event.call_id) = (call.app_id, call.provider, call.call_id)
            ORDER BY 1)
  FROM calls AS call, before
 WHERE (call.app_id, call.provider, call.call_id) = (%(app_id)s, %(provider)s, %(call_id)s)
   AND attempt.app_id = %(app_id)s AND attempt.call_id = before.call_id
RETURNING attempt.contact_id, attempt.outcome IS DISTINCT FROM before.outcome AS changed
"""
# In an event of the contact's own subject: two workers with several contacts each never wait for one another, and the
# later of two outcomes sees both.
REACH = """
UPDATE contacts AS contact
   SET state = CASE WHEN EXISTS (SELECT FROM call_attempts AS attempt
                                  WHERE (attempt.app_id, attempt.contact_id) = (contact.app_id, contact.contact_id)
                                    AND attempt.outcome IN ('NO_ANSWER', 'BUSY', 'FAILED'))
                    THEN 'NOT_REACHED' ELSE 'PENDING' END
 WHERE (app_id, contact_id) = (%s, %s) AND state IN ('PENDING', 'NOT_REACHED')
"""
START = """
INSERT INTO dialogues (app_id, provider, call_id, campaign_id, contact_id, started_at, webhook_event_id)
VALUES (%(app_id)s, %(provider)s, %(call_id)s, %(campaign_id)s, %(contact_id)s, %(at)s, %(event)s)
ON CONFLICT DO NOTHING
"""


@on(*calls.STATES, "call.amd", provider="twilio")
def follow_call(event: Event, conn: Connection) -> None:
    """Follow a call of a campaign with its attempt and contact; one that is answered starts its dialogue."""
    told = call_event(event)
    if told.campaign_id is None and not _attempted(told, conn):
        return  # no survey's
    if calls.keep(event, told, conn) is None:
        return
    names = {**told.model_dump(), "event": event.id, "at": event.occurred_at or event.received_at}
    if told.campaign_id is not None:
        conn.execute(BEGIN, names)
    _follow(event, names, conn)
    if told.state == "answered" and told.campaign_id is not None and conn.execute(START, names).rowcount:
        _announce(event, told, conn)


@on("call.recording", calls.TIMEOUT, provider="inbox")
def follow_our_own(event: Event, conn: Connection) -> None:
    """Follow what the inbox itself put to a call: its recording, and the end of one that nobody ended."""
    _follow(event, call_event(event).model_dump(), conn)


@on("contact.outcome", provider="inbox")
def reach_contact(event: Event, conn: Connection) -> None:
    """Take the outcomes of a contact's attempts together; what the orchestrator said of it is kept."""
    conn.execute(REACH, (event.app_id, event.payload["contact_id"]))


@on("recording.completed", provider="twilio")
def keep_recording(event: Event, conn: Connection) -> None:
    """Put a recording to its call, and so to its attempt."""
    calls.announce_recording(event, conn)


def start_dialogue(event: Event) -> Callable[[Connection], Any]:
    """Tell the dialogue orchestrator that a call was answered. At least once; ``webhook-id`` is the same each time.

    POSTs ``{call_id, provider_call_id, campaign_id, contact_id, started_at}``, signed by Standard Webhooks with
    DIALOGUE_SECRET. Raises ConnectionError for an answer other than 2xx: then it is told again, after a backoff.
    """
    body = json.dumps(event.payload).encode()
    message_id = quote(event.key, safe=":/")  # an app_id may have what no header can carry
    headers = standard_webhooks_headers(DIALOGUE_SECRET, message_id, int(time.time()), body)
    status = post(DIALOGUE_URL, body, {"content-type": "application/json", **headers}, POST_SECONDS)
    if not 200 <= status < 300:
        raise ConnectionError(f"the dialogue orchestrator answered {status}; expected 2xx")
    key = (event.app_id, event.payload["provider"], event.payload["provider_call_id"])
    return lambda conn: conn.execute(
        "UPDATE dialogues SET announced_at = clock_timestamp()"
        " WHERE (app_id, provider, call_id) = (%s, %s, %s) AND announced_at IS NULL",
        key,
    )


if DIALOGUE_URL:  # else there is nobody to tell, and no need for processes that wait for answers
    on("dialogue.start", provider="inbox", outside=True, timeout=3 * POST_SECONDS)(start_dialogue)


def _follow(event: Event, names: dict[str, Any], conn: Connection) -> None:
    for contact, changed in conn.execute(FOLLOW, names).fetchall():
        if changed and contact is not None:
            about = {"contact_id": contact}
            emit(
                conn, "contact.outcome", f"contact/{contact}", app_id=names["app_id"], key=f"{contact}:{event.key}",
                payload=about,
            )  # fmt: skip


def _attempted(told: CallEvent, conn: Connection) -> bool:
    known = "SELECT FROM call_attempts WHERE (app_id, provider, provider_call_id) = (%s, %s, %s)"
    return conn.execute(known, (told.app_id, told.provider, told.call_id)).fetchone() is not None


def _announce(event: Event, told: CallEvent, conn: Connection) -> None:
    if DIALOGUE_URL:
        payload = {
            "call_id": told.attempt_id or told.call_id,
            "provider": told.provider,
            "provider_call_id": told.call_id,
            "campaign_id": told.campaign_id,
            "contact_id": told.contact_id,
            "started_at": (event.occurred_at or event.received_at).isoformat(),
        }
        # A subject of its own: a call's later events don't wait for the orchestrator.
        key = f"{told.provider}:{told.call_id}"
        emit(conn, "dialogue.start", f"dialogue/{told.call_id}", app_id=told.app_id, key=key, payload=payload)
