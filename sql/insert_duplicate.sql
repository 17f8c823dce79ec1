-- Record one more delivery of an event that is stored.
--
-- in   source, event_id text; body bytea; age interval: how long ago it arrived
-- out  id of the event, same_body: whether this delivery's bytes are the stored ones
--
-- A statement of its own, after insert_event: its snapshot sees the row that insert ran into.
WITH event AS (
    SELECT id, source, event_id, body_sha256 = sha256(%(body)b) AS same_body
      FROM webhook_events
     WHERE source = %(source)s AND event_id = %(event_id)s
), duplicate AS (
    INSERT INTO webhook_duplicates (source, event_id, same_body, body_sha256, received_at)
    SELECT source, event_id, same_body, sha256(%(body)b), now() - %(age)s::interval FROM event
)
SELECT id, same_body
  FROM event, (SELECT CASE WHEN current_setting('synchronous_commit') IN ('off', 'local')
                           THEN set_config('synchronous_commit', 'on', true) END) AS durable;
