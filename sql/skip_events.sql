-- Close events without running their handlers; the trigger webhook_events_skip sets the outcome.
--
-- in   ids bigint[]
-- out  nothing; row count: events that were unprocessed or dead
UPDATE webhook_events SET processed_at = clock_timestamp()
 WHERE id IN (SELECT id FROM webhook_events
               WHERE id = ANY (%(ids)s::bigint[]) AND processed_at IS NULL ORDER BY id FOR UPDATE);
