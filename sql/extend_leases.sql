-- Prolong a worker's leases; for a row that somebody else has locked nobody waits.
--
-- in   lease bigint; ids bigint[]: what it still runs; ttl interval: from now
-- out  id: a row an event that is its own no more
WITH extended AS (
    UPDATE webhook_events
       SET next_attempt_at = clock_timestamp() + %(ttl)s::interval
     WHERE id IN (SELECT id FROM webhook_events
                   WHERE id = ANY (%(ids)s::bigint[]) AND lease = %(lease)s
                     AND processed_at IS NULL AND dead_at IS NULL
                   ORDER BY id FOR UPDATE SKIP LOCKED)
)
SELECT id FROM unnest(%(ids)s::bigint[]) AS asked (id)
 WHERE NOT EXISTS (SELECT FROM webhook_events AS event
                    WHERE event.id = asked.id AND lease = %(lease)s AND processed_at IS NULL AND dead_at IS NULL);
