-- Say how a worker died, where its death was counted against an event.
--
-- in   id bigint; worker text: host:pid; how text: its signal or exit code
-- out  nothing; row count 0: it was not to blame
WITH explained AS (
    UPDATE webhook_events SET last_error = last_error || ' (' || %(how)s || ')'
     WHERE id IN (SELECT id FROM webhook_events WHERE id = %(id)s FOR UPDATE SKIP LOCKED)
       AND last_error = 'Crash: worker ' || %(worker)s || ' died while it handled this event'
    RETURNING id, last_error
)
UPDATE webhook_attempts AS attempt SET error = explained.last_error
  FROM explained
 WHERE attempt.id = (SELECT max(id) FROM webhook_attempts WHERE event_id = explained.id);
