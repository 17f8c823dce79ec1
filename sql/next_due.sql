-- How long it is until the next event that waits for its time is due.
--
-- in   nothing
-- out  seconds double precision, at least 0; no row: none waits
--
-- What was due before is not counted: the claim that has just found nothing saw it, and somebody else has it. The
-- last moments are, because between that claim and this statement an event may have become due.
SELECT greatest(extract(epoch FROM next_attempt_at - clock_timestamp()), 0)::float8 AS seconds
  FROM webhook_events
 WHERE processed_at IS NULL AND dead_at IS NULL AND next_attempt_at > now() - interval '20 milliseconds'
 ORDER BY next_attempt_at, id
 LIMIT 1;
