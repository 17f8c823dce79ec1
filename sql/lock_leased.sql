-- Lock the leased events that this transaction is going to finish; until end_run it refuses to be committed.
--
-- in   lease bigint; ids bigint[]
-- out  run_id bigint; backend integer: the server's process; ids bigint[]: those that are still the lease's
WITH guard AS (
    INSERT INTO webhook_guards (run_id) VALUES (nextval('webhook_run_ids')) RETURNING run_id
), own AS (
    SELECT id FROM webhook_events
     WHERE id = ANY (%(ids)s::bigint[]) AND lease = %(lease)s AND processed_at IS NULL AND dead_at IS NULL
     ORDER BY id FOR UPDATE
)
SELECT (SELECT run_id FROM guard) AS run_id, pg_backend_pid() AS backend,
       coalesce((SELECT array_agg(id) FROM own), '{}') AS ids;
