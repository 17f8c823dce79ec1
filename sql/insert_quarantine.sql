-- Keep one delivery that could not be proven.
--
-- in   source, cause, method, target text; headers json text; body bytea, body_bytes integer: as sent;
--      seconds float8: since it came
-- out  nothing
INSERT INTO webhook_quarantine (source, cause, received_at, method, target, headers, body, body_bytes)
VALUES (%(source)s, %(cause)s, now() - %(seconds)s * interval '1 s', %(method)s, %(target)s, %(headers)s::jsonb,
        %(body)b, %(body_bytes)s);
