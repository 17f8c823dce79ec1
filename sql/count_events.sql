-- The figures of `processor status`. Reads the partial indexes and one hour's rows, never the history.
--
-- in   nothing
-- out  one row; oldest_seconds: age of the oldest unprocessed event, NULL where there is none
SELECT waiting.unprocessed, waiting.due, waiting.retrying, waiting.oldest_received_at,
       round(extract(epoch FROM now() - waiting.oldest_received_at), 3)::float8 AS oldest_seconds,
       (SELECT count(*) FROM webhook_events WHERE dead_at IS NOT NULL) AS dead,
       (SELECT count(*) FROM webhook_events
         WHERE processed_at > now() - interval '1 hour') AS processed_last_hour
  FROM (SELECT count(*) AS unprocessed,
               count(*) FILTER (WHERE next_attempt_at <= now()) AS due,
               count(*) FILTER (WHERE last_error IS NOT NULL) AS retrying,
               min(received_at) AS oldest_received_at
          FROM webhook_events
         WHERE processed_at IS NULL AND dead_at IS NULL) AS waiting;
