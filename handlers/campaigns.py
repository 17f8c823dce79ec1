"""Vapi calls and campaign progress.

Progress is counted from calls, of whatever provider, when it is asked for: no counter to wait for. What has to be
decided once is that a campaign is over. A call that ends puts campaign.call_ended into the inbox (a trigger of
sql/migrations/0012_campaigns.sql); events of one campaign are never handled at the same time, so the last of two calls
that end at once sees both. How to: docs/vapi-campaigns.md.
"""

import logging

from psycopg import Connection

from handlers import calls
from handlers.providers import call_event
from processor import Event, on

log = logging.getLogger("handlers")

COMPLETE = """
UPDATE campaigns AS campaign
   SET status = 'COMPLETED', completed_at = coalesce(ended.last_at, clock_timestamp())
  FROM (SELECT count(*) AS total, bool_and(call_ended(state)) AS all_ended, max(ended_at) AS last_at
          FROM calls WHERE (app_id, campaign_id) = (%(app_id)s, %(campaign_id)s)) AS ended
 WHERE (campaign.app_id, campaign.campaign_id) = (%(app_id)s, %(campaign_id)s) AND campaign.status = 'RUNNING'
   AND ended.all_ended AND ended.total >= coalesce(campaign.planned_calls, 1)
"""
# One that comes later will look again, and sees what this one does.
LATER = """
SELECT FROM webhook_events
 WHERE subject = %s AND app_id = %s AND id > %s AND event_type = 'campaign.call_ended'
   AND processed_at IS NULL AND dead_at IS NULL
 LIMIT 1
"""


@on(*calls.STATES, *calls.NOTES, "call.report", provider="vapi")
def keep_call(event: Event, conn: Connection) -> None:
    """Keep what Vapi tells of a call: status updates, and the report after its end."""
    calls.keep(event, call_event(event), conn)


@on("other", provider="vapi")
def keep_unknown(event: Event, conn: Connection) -> None:
    """Log a message of a type that we don't know; it is an error of nobody's."""
    log.info("message unknown id=%d provider=vapi type=%s", event.id, event.provider_word)
    if event.subject:
        calls.keep(event, call_event(event), conn)


@on("campaign.call_ended", provider="inbox")
def complete_campaign(event: Event, conn: Connection) -> None:
    """Complete a campaign whose last active call has ended; once, and for good."""
    if conn.execute(LATER, (event.subject, event.app_id, event.id)).fetchone() is not None:
        return
    names = {"app_id": event.app_id, "campaign_id": event.payload["campaign_id"]}
    if conn.execute(COMPLETE, names).rowcount:
        log.info("campaign completed id=%d", event.id)
