-- Make events due again, processed, dead or retrying; the trigger webhook_events_replay does the rest.
--
-- in   ids bigint[]
-- out  nothing; row count: events that are there
--
-- ORDER BY id inside: two operators replaying the same events lock them in the same order.
UPDATE webhook_events SET processed_at = NULL
 WHERE id IN (SELECT id FROM webhook_events WHERE id = ANY (%(ids)s::bigint[]) ORDER BY id FOR UPDATE);
