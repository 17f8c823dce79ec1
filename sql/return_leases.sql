-- Give events back that were leased and not begun; their attempt is not spent.
--
-- in   lease bigint; ids bigint[]
-- out  nothing
UPDATE webhook_events
   SET lease = NULL, next_attempt_at = clock_timestamp(), attempts = attempts - 1
 WHERE id IN (SELECT id FROM webhook_events
               WHERE id = ANY (%(ids)s::bigint[]) AND lease = %(lease)s
                 AND processed_at IS NULL AND dead_at IS NULL
               ORDER BY id FOR UPDATE SKIP LOCKED);
