-- Have events run alone from now on: one of them kept the batch they were in from being committed.
--
-- in   ids bigint[]
-- out  nothing
UPDATE webhook_events SET suspect = true
 WHERE id IN (SELECT id FROM webhook_events
               WHERE id = ANY (%(ids)s::bigint[]) AND processed_at IS NULL AND dead_at IS NULL
               ORDER BY id FOR UPDATE SKIP LOCKED);
