-- Record one more delivery of an event that is stored, or was and has been deleted.
--
-- in   source, event_id text; body bytea; age interval: how long ago it arrived
-- out  id of the event, same_body: whether this delivery's bytes are the stored ones; both NULL where it was deleted
--
-- A statement of its own, after insert_event: its snapshot sees the row, or the tombstone, that insert ran into.
WITH event AS (
    SELECT id, source, event_id, body_sha256 = sha256(%(body)b) AS same_body
      FROM webhook_events
     WHERE source = %(source)s AND event_id = %(event_id)s
), known AS (
    SELECT * FROM event
    UNION ALL
    SELECT NULL, source, event_id, NULL FROM webhook_tombstones
     WHERE source = %(source)s AND event_id = %(event_id)s AND NOT EXISTS (SELECT FROM event)
), duplicate AS (
    INSERT INTO webhook_duplicates (source, event_id, same_body, body_sha256, received_at)
    SELECT source, event_id, same_body, sha256(%(body)b), now() - %(age)s::interval FROM known
)
SELECT id, same_body
  FROM known, (SELECT CASE WHEN current_setting('synchronous_commit') IN ('off', 'local')
                           THEN set_config('synchronous_commit', 'on', true) END) AS durable;
