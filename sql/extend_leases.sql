-- Prolong a worker's leases.
--
-- in   lease bigint; ids bigint[]: what it still runs; ttl interval: from now
-- out  id: a row an event that is still its own
UPDATE webhook_events
   SET next_attempt_at = clock_timestamp() + %(ttl)s::interval
 WHERE id IN (SELECT id FROM webhook_events
               WHERE id = ANY (%(ids)s::bigint[]) AND lease = %(lease)s
                 AND processed_at IS NULL AND dead_at IS NULL
               ORDER BY id FOR UPDATE)
RETURNING id;
