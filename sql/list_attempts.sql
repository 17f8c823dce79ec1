-- The attempts of one event that failed, in their order.
--
-- in   id bigint: the event
-- out  a row an attempt; seconds: NULL where its worker died
SELECT replays, attempt, result, failed_at, worker, seconds, handler, handler_version, error_class, error
  FROM webhook_attempts
 WHERE event_id = %(id)s
 ORDER BY id;
