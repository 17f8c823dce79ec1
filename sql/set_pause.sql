-- Pause a source or a type: no worker claims its events until then.
--
-- in   kind text: source | type; name, reason text; duration interval; NULL: until it is resumed
-- out  nothing
INSERT INTO webhook_pauses AS pause (kind, name, reason, until)
VALUES (%(kind)s, %(name)s, %(reason)s, now() + %(duration)s::interval)
ON CONFLICT (kind, name) DO UPDATE
   SET reason = excluded.reason, until = excluded.until,
       paused_at = CASE WHEN pause.until <= now() THEN now() ELSE pause.paused_at END;
