-- Store several authentic events in one transaction, each unless its key is there already; ids ascend in their order.
--
-- in   lock_timeout text: how long it waits for another transaction at most ('0': as long as that takes);
--      a row each: place integer, counted from 0, and what insert_event takes
-- out  id, source and event_id of each new row; none: a duplicate, of a committed event or of one before it in here;
--      fails with 55P03 where another transaction took too long; all else as insert_event, and nothing is stored then
--
-- receiver/batch.py repeats the row of VALUES. As arrays they would cost little less here, and on Citus, which looks
-- into VALUES and not into arrays, fourteen times as much.
-- ORDER BY: the default of id is evaluated after it.
WITH inserted AS (
    INSERT INTO webhook_events (
        app_id, source, provider, event_id, event_type, provider_type, subject, method, url,
        headers, body, body_sha256, payload, parse_error, occurred_at, received_at, verified_by, dead_at, last_error
    )
    SELECT
        app_id, source, provider, event_id, event_type, provider_type, subject, method, url,
        headers, body, sha256(body), payload, parse_error, occurred_at, now() - age, verified_by,
        CASE WHEN parse_error IS NOT NULL THEN now() END, parse_error
      FROM (SELECT set_config('lock_timeout', %(lock_timeout)s, true),
                   CASE WHEN current_setting('synchronous_commit') IN ('off', 'local')
                        THEN set_config('synchronous_commit', 'on', true) END) AS durable,
           (VALUES
                (%(place)s::integer, %(app_id)s::text, %(source)s::text, %(provider)s::text, %(event_id)s::text,
                 %(event_type)s::text, %(provider_type)s::text, %(subject)s::text, %(method)s::text, %(url)s::text,
                 %(headers)s::jsonb, %(body)b::bytea, %(payload)s::jsonb, %(parse_error)s::text,
                 %(occurred_at)s::timestamptz, %(age)s::interval, %(verified_by)s::text)
           ) AS event (place, app_id, source, provider, event_id, event_type, provider_type, subject, method, url,
                       headers, body, payload, parse_error, occurred_at, age, verified_by)
     WHERE NOT EXISTS (SELECT FROM webhook_tombstones AS gone
                        WHERE gone.source = event.source AND gone.event_id = event.event_id)
     ORDER BY place
    ON CONFLICT (source, event_id) DO NOTHING
    RETURNING id, source, event_id
), checked AS (
    SELECT webhook_are_new(array_agg(source), array_agg(event_id)) FROM inserted
)
SELECT id, source, event_id FROM inserted, checked;
