-- Take the right to try one event of a handler whose breaker is open.
--
-- in   handler text; wait interval: until the next may be tried
-- out  nothing; row count 0: another worker tries one, or the breaker is closed
UPDATE webhook_breakers SET probe_at = clock_timestamp() + %(wait)s::interval
 WHERE handler = %(handler)s AND probe_at <= clock_timestamp();
