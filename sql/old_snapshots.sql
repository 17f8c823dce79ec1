-- Who keeps deleted and updated rows from being vacuumed, and for how long.
--
-- in   age interval: only transactions older than that
-- out  kind text: session | idle | prepared | slot; name text: pid and application, or a name; seconds float8: since
--      when, NULL where the role may not see it; xids integer: transactions since
SELECT CASE WHEN starts_with(state, 'idle in transaction') THEN 'idle' ELSE 'session' END AS kind,
       concat_ws(' ', pid::text, usename, nullif(application_name, '')) AS name,
       extract(epoch FROM now() - xact_start)::float8 AS seconds,
       greatest(age(backend_xmin), age(backend_xid)) AS xids
  FROM pg_stat_activity
 WHERE pid <> pg_backend_pid() AND coalesce(backend_type, 'client backend') IN ('client backend', 'walsender')
   AND (datname = current_database() OR datname IS NULL)
   AND (now() - xact_start > %(age)s::interval
        OR xact_start IS NULL AND greatest(age(backend_xmin), age(backend_xid)) > 1000000)
UNION ALL
SELECT 'prepared', gid, extract(epoch FROM now() - prepared)::float8, age(transaction)
  FROM pg_prepared_xacts
 WHERE now() - prepared > %(age)s::interval
UNION ALL
SELECT 'slot', slot_name, NULL, greatest(age(xmin), age(catalog_xmin))
  FROM pg_replication_slots
 WHERE greatest(age(xmin), age(catalog_xmin)) > 1000000
 ORDER BY 1, 2;
