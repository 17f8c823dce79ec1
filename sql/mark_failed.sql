-- Record a failed attempt: in the transaction that holds the event's row lock, or after that was lost.
--
-- in   id bigint; attempt integer: the attempt that failed; lease bigint: the lease it ran under, NULL: none;
--      counted boolean: whether it is spent; error, error_class text; wait interval: until the event is due again,
--      NULL: a dead letter; yields interval: from its first failure on, after which it holds back nobody; NULL: never;
--      worker, handler, handler_version text; seconds real: what it took
-- out  nothing; row count 0: another worker has had the event since, it was replayed, or no attempt was spent
WITH failed AS (
    UPDATE webhook_events
       SET attempts = %(attempt)s - (NOT %(counted)s)::integer,
           last_error = %(error)s,
           next_attempt_at = clock_timestamp() + coalesce(%(wait)s::interval, '0'),
           dead_at = CASE WHEN %(wait)s::interval IS NULL THEN clock_timestamp() END,
           yields_at = coalesce(yields_at, clock_timestamp() + %(yields)s::interval),
           lease = NULL,
           parked = false
     WHERE id = %(id)s AND processed_at IS NULL AND dead_at IS NULL
       -- A leased one's attempt was counted with its lease.
       AND CASE WHEN %(lease)s::bigint IS NULL THEN least(attempts, 2147483646) + 1 ELSE attempts END = %(attempt)s
       AND lease IS NOT DISTINCT FROM %(lease)s::bigint
    RETURNING id, replays, dead_at
)
INSERT INTO webhook_attempts
       (event_id, replays, attempt, result, worker, seconds, handler, handler_version, error_class, error)
SELECT id, replays, %(attempt)s, CASE WHEN dead_at IS NULL THEN 'retry' ELSE 'dead' END,
       %(worker)s, %(seconds)s, %(handler)s, %(handler_version)s, %(error_class)s, %(error)s
  FROM failed
 WHERE %(counted)s OR dead_at IS NOT NULL;  -- waiting, as a handler asked, is no failure
