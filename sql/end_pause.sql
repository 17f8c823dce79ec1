-- Resume a source or a type.
--
-- in   kind text: source | type; name text
-- out  nothing; row count 0: it was not paused
DELETE FROM webhook_pauses WHERE kind = %(kind)s AND name = %(name)s;
