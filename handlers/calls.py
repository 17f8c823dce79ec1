"""The calls table and its log: what an event changes about its call. The systems' handlers call keep().

One statement an event: it is safe to run twice, and in whatever order the events come, the row ends as the same.
"""

import logging
import os
from dataclasses import dataclass
from datetime import timedelta

from psycopg import Connection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from handlers.models import ENDS, CallEvent
from handlers.providers import call_event
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

# What is known of a call besides its state. Of two events that tell it, the one that brought the state counts.
FACTS = (
    "campaign_id", "direction", "from_number", "to_number", "ended_reason", "duration_seconds", "talk_seconds",
    "total_seconds", "sip_code", "error_code", "answered_by", "recording_url", "recording_seconds", "voicemail_url",
    "transcript", "cost_usd", "carrier_call_id", "parent_call_id", "master_call_id", "entry_point_call_id",
)  # fmt: skip
KEYS = {"app_id", "provider", "call_id", "event_type", "provider_type", "state", "occurred_at", "transcript"}
KEEP = f"""
WITH campaign AS (
    INSERT INTO campaigns (app_id, campaign_id)
    SELECT %(app_id)s, %(campaign_id)s::text WHERE %(campaign_id)s::text IS NOT NULL
    ON CONFLICT DO NOTHING
), before AS MATERIALIZED (
    SELECT state, occurred_at, campaign_id FROM calls
     WHERE (app_id, provider, call_id) = (%(app_id)s, %(provider)s, %(call_id)s)
       FOR NO KEY UPDATE
), kept AS (
    INSERT INTO calls AS call (app_id, provider, call_id, state, occurred_at, webhook_event_id, last_status_at,
                               ended_at, {", ".join(FACTS)})
    VALUES (%(app_id)s, %(provider)s, %(call_id)s, coalesce(%(state)s, 'queued'), %(occurred_at)s, %(event)s,
            %(status_at)s, %(ended_at)s, {", ".join(f"%({fact})s" for fact in FACTS)})
    ON CONFLICT (app_id, provider, call_id) DO UPDATE
       SET (state, occurred_at, webhook_event_id, last_status_at, ended_at, {", ".join(FACTS)}) = (
           SELECT CASE WHEN moved THEN excluded.state ELSE call.state END,
                  -- Told twice: it got this state when the first of the two happened; of ends the last counts.
                  CASE WHEN call.state = %(state)s AND NOT call_ended(call.state)
                       THEN least(call.occurred_at, excluded.occurred_at)
                       WHEN moved THEN excluded.occurred_at ELSE call.occurred_at END,
                  CASE WHEN moved THEN excluded.webhook_event_id ELSE call.webhook_event_id END,
                  greatest(call.last_status_at, excluded.last_status_at),
                  CASE WHEN moved THEN excluded.ended_at ELSE call.ended_at END,
                  {", ".join(f"coalesce(CASE WHEN moved THEN excluded.{f} END, call.{f}, excluded.{f})" for f in FACTS)}
             FROM (SELECT call_change(call.state, call.occurred_at, %(state)s, %(occurred_at)s) = 'moved'
                          -- The event that brought the state, replayed, perhaps understood better than before.
                          OR (call.webhook_event_id = %(event)s AND %(state)s::text IS NOT NULL
                              AND call_rank(%(state)s) >= call_rank(call.state))
                  ) AS change (moved))
    RETURNING state, campaign_id
), logged AS (
    INSERT INTO call_events (app_id, provider, call_id, webhook_event_id, replays, event_type, provider_type, state,
                             from_state, change, occurred_at, received_at, details)
    SELECT %(app_id)s, %(provider)s, %(call_id)s, %(event)s, %(replays)s, %(event_type)s, %(provider_type)s, %(state)s,
           before.state, call_change(before.state, before.occurred_at, %(state)s, %(occurred_at)s),
           %(occurred_at)s, %(received_at)s, %(details)s
      FROM (SELECT) AS one LEFT JOIN before ON true
    ON CONFLICT (webhook_event_id, replays) DO NOTHING
    RETURNING id
)
SELECT logged.id IS NOT NULL AS fresh, before.state IS NULL AS created, coalesce(kept.state, before.state) AS state,
       call_change(before.state, before.occurred_at, %(state)s, %(occurred_at)s) AS change,
       coalesce(kept.campaign_id, before.campaign_id) AS campaign_id
  FROM (SELECT) AS one LEFT JOIN before ON true LEFT JOIN kept ON true LEFT JOIN logged ON true
"""  # noqa: S608 - the names above


@dataclass(frozen=True)
class Kept:
    """What came of an event.

    fresh: it is told for the first time, by no other handler before. created: the call was not known before. state:
    that it has now. change: as in call_events.
    """

    fresh: bool
    created: bool
    state: str
    change: str
    campaign_id: str | None


def read(event: Event, conn: Connection) -> CallEvent:
    """Return what an event tells, under its call's app_id. Raises Invalid.

    Twilio names no number where it tells of a recording or of who answered, so where tenants share a URL the receiver
    can't say whose call it is; the row of the call can.
    """
    told = call_event(event)
    if told.provider != "twilio" or told.from_number or told.to_number:
        return told
    owner = "SELECT app_id FROM calls WHERE (provider, call_id) = (%s, %s) ORDER BY app_id <> %s LIMIT 1"
    found = conn.execute(owner, (told.provider, told.call_id, told.app_id)).fetchone()
    return told.model_copy(update={"app_id": found[0]}) if found else told


def keep(event: Event, told: CallEvent, conn: Connection) -> Kept | None:
    """Write what an event told of its call, and its line of the log; None for a call that is not kept.

    A call that has told of no end expects another event within SILENCE; else the inbox makes it a call.timeout.
    """
    if told.provider in IGNORED and _state(told, conn) is None:
        log.info("call ignored id=%d provider=%s type=%s; it is not in calls", event.id, told.provider, told.event_type)
        return None
    received_at = told.occurred_at or event.received_at
    names = {
        **{name: getattr(told, name) for name in (*FACTS, *KEYS)},
        "event": event.id,
        "replays": event.replays,
        "received_at": event.received_at,
        "status_at": received_at if told.state else None,
        "ended_at": (told.ended_at or received_at) if told.ends else None,
        "details": Jsonb(told.model_dump(mode="json", exclude_none=True, exclude=KEYS)),
    }
    kept = conn.cursor(row_factory=class_row(Kept)).execute(KEEP.encode(), names).fetchone()
    assert kept is not None  # noqa: S101 - one row, whatever is joined to it
    if kept.fresh and kept.created and told.direction != "inbound":
        log.info("call unknown id=%d provider=%s type=%s; created", event.id, told.provider, told.event_type)
    if kept.fresh and kept.change == "impossible":
        log.warning("call impossible id=%d type=%s state=%s; kept its state", event.id, told.event_type, kept.state)
    if event.subject and kept.state in ENDS:
        fulfil(conn, event.subject, TIMEOUT, app_id=told.app_id)
    elif event.subject and (kept.created or kept.change == "moved"):
        about = {"provider": told.provider, "call_id": told.call_id}
        expect(conn, event.subject, within=SILENCE, otherwise=TIMEOUT, app_id=told.app_id, payload=about)
    return kept


@on("call.recording", TIMEOUT, provider="inbox")
def keep_our_own(event: Event, conn: Connection) -> None:
    """Put a recording to its call, and end a call that has been silent for too long, if it is still under way."""
    told = read(event, conn)
    if told.ends and _state(told, conn) in (None, *ENDS):
        return
    keep(event, told, conn)


def announce_recording(event: Event, conn: Connection) -> None:
    """Have a recording, whose subject is its own, put to its call among the call's events: two workers never meet."""
    told = read(event, conn)
    facts = {name: getattr(told, name) for name in ("provider", "call_id", "recording_url", "recording_seconds")}
    payload = {name: value if isinstance(value, str) else str(value) for name, value in facts.items() if value}
    emit(
        conn, "call.recording", f"call/{told.call_id}", app_id=told.app_id, key=event.key,
        payload=payload, occurred_at=event.occurred_at,
    )  # fmt: skip


def _state(told: CallEvent, conn: Connection) -> str | None:
    known = "SELECT state FROM calls WHERE (app_id, provider, call_id) = (%s, %s, %s)"
    found = conn.execute(known, (told.app_id, told.provider, told.call_id)).fetchone()
    return found[0] if found else None
