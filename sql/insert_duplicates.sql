-- Record one more delivery of each of several events that are stored, or were and have been deleted.
--
-- in   a row each: place integer, counted from 0, and what insert_duplicate takes
-- out  a row each: place, and what insert_duplicate returns; none where neither the event nor its tombstone is there
--
-- receiver/batch.py repeats the row of VALUES. A statement of its own, after insert_events, as insert_duplicate is.
WITH known AS (
    SELECT place, source, event_id, event.id, event.body_sha256 = given.body_sha256 AS same_body, given.body_sha256, age
      FROM (SELECT place, source, event_id, sha256(body) AS body_sha256, age
              FROM (VALUES
                (%(place)s::integer, %(source)s::text, %(event_id)s::text, %(body)b::bytea, %(age)s::interval)
              ) AS delivery (place, source, event_id, body, age)) AS given
      LEFT JOIN webhook_events AS event USING (source, event_id)
     WHERE event.id IS NOT NULL
        OR EXISTS (SELECT FROM webhook_tombstones AS gone
                    WHERE gone.source = given.source AND gone.event_id = given.event_id)
), duplicate AS (
    INSERT INTO webhook_duplicates (source, event_id, same_body, body_sha256, received_at)
    SELECT source, event_id, same_body, body_sha256, now() - age FROM known ORDER BY place
)
SELECT place, id, same_body
  FROM known, (SELECT CASE WHEN current_setting('synchronous_commit') IN ('off', 'local')
                           THEN set_config('synchronous_commit', 'on', true) END) AS durable;
