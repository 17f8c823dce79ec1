-- What an operator sees of events in a list. No payload, no body.
--
-- in   ids bigint[]
-- out  a row an event, newest first; age: since it was received
SELECT id, app_id, source, event_type, provider_type, subject, event_id,
       CASE WHEN dead_at IS NOT NULL THEN 'dead' WHEN processed_at IS NOT NULL THEN 'processed'
            WHEN last_error IS NOT NULL THEN 'retrying' ELSE 'waiting' END AS state,
       outcome, attempts, replays, last_error, received_at, occurred_at, processed_at, dead_at,
       CASE WHEN processed_at IS NULL AND dead_at IS NULL THEN next_attempt_at END AS next_attempt_at,
       now() - received_at AS age
  FROM webhook_events
 WHERE id = ANY (%(ids)s::bigint[])
 ORDER BY id DESC;
