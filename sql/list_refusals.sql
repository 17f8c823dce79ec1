-- What was refused, by source, status and cause; what was refused last comes first.
--
-- in   age interval: only days (UTC) on which one was refused within that time; each is counted whole
-- out  source, status, cause; refused bigint; first_at, last_at: of those days
SELECT source, status, cause, sum(refused)::bigint AS refused, min(first_at) AS first_at, max(last_at) AS last_at
  FROM webhook_refusals
 WHERE last_at > now() - %(age)s::interval
 GROUP BY source, status, cause
 ORDER BY max(last_at) DESC, source, status, cause;
