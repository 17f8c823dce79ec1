-- Open a handler's breaker, or say that a probe has failed as well.
--
-- in   handler, error text; failures integer: in a row; wait interval: until the next probe
-- out  nothing
INSERT INTO webhook_breakers AS breaker (handler, failures, probe_at, last_error)
VALUES (%(handler)s, %(failures)s, clock_timestamp() + %(wait)s::interval, %(error)s)
    ON CONFLICT (handler) DO UPDATE
   SET failures = breaker.failures + 1, probe_at = excluded.probe_at, last_error = excluded.last_error;
