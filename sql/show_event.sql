-- Everything kept of one event, for its page.
--
-- in   id bigint
-- out  one row or none; state: as in describe_events.sql; duplicates: deliveries after the first; other_bodies: those with other bytes;
--      behind bigint: of an unprocessed event, the earlier one of its subject that holds it back;
--      paused text: of an unprocessed event, what keeps it from being claimed, as source=name or type=name
SELECT event.*,
       CASE WHEN dead_at IS NOT NULL THEN 'dead' WHEN processed_at IS NOT NULL THEN 'processed'
            WHEN last_error IS NOT NULL THEN 'retrying' ELSE 'waiting' END AS state,
       (SELECT count(*) FROM webhook_duplicates AS again
         WHERE again.source = event.source AND again.event_id = event.event_id) AS duplicates,
       (SELECT count(*) FROM webhook_duplicates AS again
         WHERE again.source = event.source AND again.event_id = event.event_id
           AND NOT again.same_body) AS other_bodies,
       CASE WHEN event.processed_at IS NULL AND event.dead_at IS NULL THEN
           (SELECT min(first.id) FROM webhook_events AS first
             WHERE first.subject = event.subject AND first.id < event.id
               AND first.processed_at IS NULL AND first.dead_at IS NULL
               AND (first.yields_at IS NULL OR first.yields_at > now())) END AS behind,
       CASE WHEN event.processed_at IS NULL AND event.dead_at IS NULL THEN
           (SELECT string_agg(kind || '=' || name, ' ' ORDER BY kind, name) FROM webhook_pauses
             WHERE (until IS NULL OR until > now())
               AND (kind, name) IN (('source', event.source), ('type', event.event_type))) END AS paused
  FROM webhook_events AS event
 WHERE event.id = %(id)s;
