-- What is paused, and what was until less than a day ago.
--
-- in   nothing
-- out  a row a pause; until: NULL until it is resumed by hand; ended boolean; waiting: unprocessed events of it
SELECT kind, name, until, reason, paused_at, until IS NOT NULL AND until <= now() AS ended,
       (SELECT count(*) FROM webhook_events
         WHERE processed_at IS NULL AND dead_at IS NULL
           AND CASE kind WHEN 'source' THEN source ELSE event_type END = name) AS waiting
  FROM webhook_pauses
 WHERE until IS NULL OR until > now() - interval '1 day'
 ORDER BY kind, name;
