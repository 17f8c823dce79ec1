-- What a prune would remove, for its dry run. Reads every processed event that is old enough.
--
-- in   before, bodies_before timestamptz: processed before; NULL: none
-- out  one row; events; bodies: of events that are kept
SELECT count(*) FILTER (WHERE processed_at < %(before)s::timestamptz) AS events,
       count(*) FILTER (WHERE processed_at < %(bodies_before)s::timestamptz AND body_removed_at IS NULL
                          AND (processed_at < %(before)s::timestamptz) IS NOT TRUE) AS bodies
  FROM webhook_events
 WHERE processed_at < greatest(%(before)s::timestamptz, %(bodies_before)s::timestamptz);
