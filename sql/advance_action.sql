-- Note how far an action got.
--
-- in   id bigint; done integer: events changed since the last note; ended boolean: whether that was all
-- out  nothing
UPDATE webhook_actions
   SET done = done + %(done)s, ended_at = CASE WHEN %(ended)s THEN clock_timestamp() END
 WHERE id = %(id)s;
