-- Remove what the provider sent with processed events; what identifies them stays, so repeats are still duplicates.
--
-- in   ids bigint[]; before timestamptz
-- out  removed integer: those processed before that time; one that is locked is left to the next prune
WITH chosen AS MATERIALIZED (
    SELECT id FROM webhook_events
     WHERE id = ANY (%(ids)s::bigint[]) AND processed_at < %(before)s AND body_removed_at IS NULL
     ORDER BY id FOR UPDATE SKIP LOCKED
), emptied AS (
    UPDATE webhook_events
       SET headers = '{}', body = '', payload = CASE WHEN parse_error IS NULL THEN 'null'::jsonb END,
           url = split_part(url, '?', 1), body_removed_at = clock_timestamp()
     WHERE id IN (SELECT id FROM chosen)
    RETURNING id
)
SELECT count(*) FROM emptied;
