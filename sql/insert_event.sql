-- Store one authentic event, unless its key is there already.
--
-- in   app_id, source, provider, event_id, event_type, provider_type, subject, method, url text;
--      headers, payload json text; body bytea; parse_error text; occurred_at timestamptz;
--      age interval: how long ago the delivery arrived;
--      verified_by text: name of the secret that proved it; NULL: none was asked for
-- out  the new row's id; no row: a duplicate (its first delivery is committed, and may have been deleted since);
--      fails with 40001 where it is deleted at this very moment: then it is a duplicate, too
--
-- ON CONFLICT waits for a concurrent insert of the same key to end, so no row means committed, not
-- under way. An event that does not parse is a dead letter from birth.
-- It waits for a concurrent delete, too, and would then insert the event again: so webhook_is_new is asked twice.
-- Whatever the database's or role's setting, this transaction's commit is durable before it is answered.
INSERT INTO webhook_events (
    app_id, source, provider, event_id, event_type, provider_type, subject, method, url,
    headers, body, body_sha256, payload, parse_error, occurred_at, received_at, verified_by, dead_at, last_error
)
SELECT
    %(app_id)s, %(source)s, %(provider)s, %(event_id)s, %(event_type)s, %(provider_type)s, %(subject)s,
    %(method)s, %(url)s, %(headers)s::jsonb, %(body)b, sha256(%(body)b), %(payload)s::jsonb,
    %(parse_error)s::text, %(occurred_at)s::timestamptz, now() - %(age)s::interval, %(verified_by)s,
    CASE WHEN %(parse_error)s::text IS NOT NULL THEN now() END, %(parse_error)s::text
  FROM (SELECT CASE WHEN current_setting('synchronous_commit') IN ('off', 'local')
                    THEN set_config('synchronous_commit', 'on', true) END) AS durable
 WHERE webhook_is_new(%(source)s, %(event_id)s, inserted => false)
ON CONFLICT (source, event_id) DO NOTHING
RETURNING CASE WHEN webhook_is_new(source, event_id, inserted => true) THEN id END AS id;
