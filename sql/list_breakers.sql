-- Handlers that keep failing, whose events wait for a probe.
--
-- in   nothing
-- out  a row a handler; failures: in a row; probe_at: when the next event may be tried
SELECT handler, failures, opened_at, probe_at, last_error
  FROM webhook_breakers
 ORDER BY handler;
