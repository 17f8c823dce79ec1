"""The calls table and its log: what an event changes about its call. The systems' handlers call keep().

Safe to run twice, and in whatever order the events come, the row ends as the same: handlers/progress.py has the rule.
"""

import logging
import os
from datetime import timedelta
from typing import Any

from psycopg import Connection
from psycopg.types.json import Jsonb

from handlers.models import CallEvent
from handlers.progress import CALL
from handlers.providers import call_event
from handlers.rows import Kept, Row, Rows
from processor import Event, emit, expect, fulfil, on

log = logging.getLogger("handlers")

# Providers whose calls are only kept where the application has made the row, before it asked for the call.
IGNORED = frozenset(os.environ.get("IGNORE_UNKNOWN_CALLS", "").replace(",", " ").split())
if unknown := IGNORED - {"dialpad", "twilio", "vapi"}:
    raise ValueError(f"IGNORE_UNKNOWN_CALLS: expected some of dialpad, twilio, vapi; got {', '.join(sorted(unknown))}")
# A call that tells nothing for so long is over: Twilio's TimeLimit is 4 hours unless it is set.
SILENCE = timedelta(hours=4)
TIMEOUT = "call.timeout"
STATES = (
    "call.incoming", "call.scheduled", "call.queued", "call.initiated", "call.ringing", "call.answered",
    "call.completed", "call.busy", "call.no_answer", "call.failed", "call.canceled", "call.missed",
)  # fmt: skip
NOTES = ("call.amd", "call.hold", "call.transfer", "call.updated", "call.deleted", "voicemail.received")

FACTS = (
    "campaign_id", "direction", "from_number", "to_number", "ended_reason", "duration_seconds", "talk_seconds",
    "total_seconds", "sip_code", "error_code", "answered_by", "recording_url", "recording_seconds", "voicemail_url",
    "transcript", "cost_usd", "carrier_call_id", "parent_call_id", "master_call_id", "entry_point_call_id",
)  # fmt: skip
KEY = ("app_id", "provider", "call_id")
# Not in the log's details: they have columns of their own there, or are too long.
UNDETAILED = {*KEY, "event_type", "provider_type", "state", "occurred_at", "transcript"}
MAKE_CAMPAIGN = "INSERT INTO campaigns (app_id, campaign_id) VALUES (%s, %s) ON CONFLICT DO NOTHING"
NOTE = """
INSERT INTO call_events (app_id, provider, call_id, webhook_event_id, replays, event_type, provider_type, state,
                         from_state, change, occurred_at, received_at, details)
VALUES (%(app_id)s, %(provider)s, %(call_id)s, %(event)s, %(replays)s, %(event_type)s, %(provider_type)s, %(state)s,
        %(from_state)s, %(change)s, %(occurred_at)s, %(received_at)s, %(details)s)
ON CONFLICT (webhook_event_id, replays) DO NOTHING
"""


def _times(told: CallEvent, event: Event, old: Row | None, *, moves: bool) -> dict[str, Any]:
    at = told.occurred_at or (event.received_at if moves else None)
    last = [old["last_status_at"] if old else None, at if told.state else None]
    ended_at = (told.ended_at or at) if told.ends else None
    return {
        "last_status_at": max(filter(None, last), default=None),
        "ended_at": ended_at if moves or old is None else old["ended_at"],
    }


ROWS = Rows("calls", KEY, FACTS, CALL, ("last_status_at", "ended_at"), _times)


def keep(event: Event, told: CallEvent, conn: Connection) -> Kept | None:
    """Write what an event told of its call, and its line of the log; None for a call that is not kept.

    A call that has told of no end expects another event within SILENCE; else the inbox makes it a call.timeout.
    """
    old = ROWS.find(told, conn)
    if old is None and told.provider in IGNORED:
        log.info("call ignored id=%d provider=%s type=%s; it is not in calls", event.id, told.provider, told.event_type)
        return None
    if told.campaign_id and (old is None or old["campaign_id"] != told.campaign_id):
        conn.execute(MAKE_CAMPAIGN, (told.app_id, told.campaign_id))
    kept = ROWS.keep(event, told, old, conn)
    if _note(event, told, kept, conn):
        _say(event, told, kept)
        _await_end(event, told, kept, conn)
    return kept


@on("call.recording", TIMEOUT, provider="inbox")
def keep_our_own(event: Event, conn: Connection) -> None:
    """Put a recording to its call, and end a call that has been silent for too long, if it is still under way."""
    told = call_event(event)
    if told.ends and ((known := ROWS.find(told, conn)) is None or CALL.is_over(known["state"])):
        return
    keep(event, told, conn)


def announce_recording(event: Event, conn: Connection) -> None:
    """Have a recording, whose subject is its own, put to its call among the call's events: two workers never meet."""
    told = call_event(event)
    facts = {name: getattr(told, name) for name in ("provider", "call_id", "recording_url", "recording_seconds")}
    payload = {name: value if isinstance(value, str) else str(value) for name, value in facts.items() if value}
    emit(
        conn, "call.recording", f"call/{told.call_id}", app_id=told.app_id, key=event.key,
        payload=payload, occurred_at=event.occurred_at,
    )  # fmt: skip


def _note(event: Event, told: CallEvent, kept: Kept, conn: Connection) -> bool:
    """Write the event's line of the log; tell whether it is its first, and no other handler has written it."""
    names = {
        **{name: getattr(told, name) for name in (*KEY, "event_type", "provider_type", "state", "occurred_at")},
        "event": event.id,
        "replays": event.replays,
        "from_state": kept.old["state"] if kept.old else None,
        "change": kept.change,
        "received_at": event.received_at,
        "details": Jsonb(told.model_dump(mode="json", exclude_none=True, exclude=UNDETAILED)),
    }
    return conn.execute(NOTE, names).rowcount == 1


def _say(event: Event, told: CallEvent, kept: Kept) -> None:
    if kept.old is None and told.direction != "inbound":
        log.info("call unknown id=%d provider=%s type=%s; created", event.id, told.provider, told.event_type)
    if kept.change == "impossible":
        state = kept.row["state"]
        log.warning("call impossible id=%d type=%s state=%s; kept its state", event.id, told.event_type, state)


def _await_end(event: Event, told: CallEvent, kept: Kept, conn: Connection) -> None:
    if not event.subject or not (kept.old is None or kept.change == "moved"):
        return
    if CALL.is_over(kept.row["state"]):
        fulfil(conn, event.subject, TIMEOUT, app_id=told.app_id)
    else:
        about = {"provider": told.provider, "call_id": told.call_id}
        expect(conn, event.subject, within=SILENCE, otherwise=TIMEOUT, app_id=told.app_id, payload=about)
