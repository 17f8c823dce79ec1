-- Put an event of our own into the inbox, unless its key is there already, and wake who waits for events.
--
-- in   app_id, event_id, event_type, subject text; payload json text; occurred_at timestamptz
-- out  the new row's id; no row: it is there already
--
-- Told within the transaction, unlike the receiver's (see notify.sql): what handlers emit is rare, and only their
-- commit knows when it is there.
WITH stored AS (
    INSERT INTO webhook_events (
        app_id, source, provider, event_id, event_type, subject, body, body_sha256, payload, occurred_at
    )
    SELECT %(app_id)s, 'inbox', 'inbox', %(event_id)s, %(event_type)s, %(subject)s,
           emitted.body, sha256(emitted.body), %(payload)s::jsonb, %(occurred_at)s::timestamptz
      FROM (SELECT convert_to(%(payload)s, 'UTF8') AS body) AS emitted
    ON CONFLICT (source, event_id) DO NOTHING
    RETURNING id
)
SELECT id, pg_notify('webhook_events', '') FROM stored;
