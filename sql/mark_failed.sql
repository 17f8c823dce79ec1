-- Record a failed attempt: in the transaction that holds the event's row lock, or after that was lost.
--
-- in   id bigint; attempt integer: the attempt that failed; counted boolean: whether it is spent
--      error text; wait interval: until the event is due again; NULL: a dead letter
-- out  nothing; row count 0: another worker has had the event since
UPDATE webhook_events
   SET attempts = CASE WHEN %(counted)s THEN %(attempt)s ELSE attempts END,
       last_error = %(error)s,
       next_attempt_at = clock_timestamp() + coalesce(%(wait)s::interval, '0'),
       dead_at = CASE WHEN %(wait)s::interval IS NULL THEN clock_timestamp() END
 WHERE id = %(id)s AND attempts = %(attempt)s - 1 AND processed_at IS NULL AND dead_at IS NULL;
