-- What was done by the commands, the newest first.
--
-- in   id bigint: only what was done to this event; NULL: everything; most integer
-- out  a row an action; ended_at NULL: under way, or it was killed
SELECT id, verb, who, reason, chosen, events, done, started_at, ended_at
  FROM webhook_actions
 WHERE %(id)s::bigint IS NULL OR event_ids @> %(id)s::bigint
 ORDER BY id DESC
 LIMIT %(most)s;
