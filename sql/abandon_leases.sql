-- Free what a worker had leased; it was killed on purpose, and no event is to blame.
--
-- in   lease bigint
-- out  nothing
--
-- The attempts stay counted: some handlers had begun.
UPDATE webhook_events SET lease = NULL, next_attempt_at = clock_timestamp()
 WHERE id IN (SELECT id FROM webhook_events
               WHERE lease = %(lease)s AND processed_at IS NULL AND dead_at IS NULL
               ORDER BY id FOR UPDATE SKIP LOCKED);
