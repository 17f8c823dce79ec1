-- Close a handler's breaker.
--
-- in   handler text
-- out  nothing; row count 0: it was closed
DELETE FROM webhook_breakers WHERE handler = %(handler)s;
