-- List the handlers whose events wait for a probe.
--
-- in   nothing
-- out  handler; due boolean: a probe may be made
SELECT handler, probe_at <= clock_timestamp() AS due FROM webhook_breakers;
