-- Forget the breakers of handlers that no processor has any more: nobody has probed them for an hour.
--
-- in   nothing
-- out  nothing
DELETE FROM webhook_breakers WHERE probe_at < now() - interval '1 hour';
