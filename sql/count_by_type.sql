-- The same figures by source and type, for the lower half of `processor status`.
--
-- in   nothing
-- out  a row a source and type that has unprocessed, dead or lately processed events
SELECT source, event_type,
       count(*) FILTER (WHERE state = 'unprocessed') AS unprocessed,
       count(*) FILTER (WHERE state = 'unprocessed' AND next_attempt_at <= now()) AS due,
       count(*) FILTER (WHERE state = 'unprocessed' AND last_error IS NOT NULL) AS retrying,
       count(*) FILTER (WHERE state = 'dead') AS dead,
       count(*) FILTER (WHERE state = 'processed') AS processed_last_hour,
       round(extract(epoch FROM now() - min(received_at) FILTER (WHERE state = 'unprocessed')), 3)::float8
           AS oldest_seconds
  FROM (SELECT 'unprocessed' AS state, source, event_type, next_attempt_at, last_error, received_at
          FROM webhook_events WHERE processed_at IS NULL AND dead_at IS NULL
        UNION ALL
        SELECT 'dead', source, event_type, next_attempt_at, last_error, received_at
          FROM webhook_events WHERE dead_at IS NOT NULL
        UNION ALL
        SELECT 'processed', source, event_type, next_attempt_at, last_error, received_at
          FROM webhook_events WHERE processed_at > now() - interval '1 hour') AS lately
 GROUP BY source, event_type
 ORDER BY source, event_type;
