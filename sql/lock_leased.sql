-- Lock the leased events that this transaction is going to finish; until end_run it refuses to be committed.
--
-- in   lease bigint; ids bigint[]; replays integer[]: of each, as it was when its handlers began
-- out  run_id bigint; backend integer: the server's process;
--      own bigint[]: those to be finished; lost bigint[]: those that are the lease's no more, or were replayed: these
--      are due again. One in neither is locked by somebody else, and nobody waits for it: ask again.
WITH guard AS (
    INSERT INTO webhook_guards (run_id) VALUES (nextval('webhook_run_ids')) RETURNING run_id
), asked AS (
    SELECT * FROM unnest(%(ids)s::bigint[], %(replays)s::integer[]) AS asked (id, replays)
), locked AS MATERIALIZED (
    SELECT id, replays FROM webhook_events
     WHERE id = ANY (%(ids)s::bigint[]) AND lease = %(lease)s AND processed_at IS NULL AND dead_at IS NULL
     ORDER BY id FOR UPDATE SKIP LOCKED
), own AS (
    SELECT id FROM locked JOIN asked USING (id, replays)
), replayed AS (
    UPDATE webhook_events
       SET lease = NULL, next_attempt_at = clock_timestamp(), attempts = 0, last_error = NULL, crashes = 0,
           suspect = false, yields_at = NULL
     WHERE id IN (SELECT id FROM locked) AND id NOT IN (SELECT id FROM own)
    RETURNING id
), lost AS (
    SELECT id FROM asked
     WHERE NOT EXISTS (SELECT FROM webhook_events AS event
                        WHERE event.id = asked.id AND lease = %(lease)s
                          AND processed_at IS NULL AND dead_at IS NULL)
)
SELECT (SELECT run_id FROM guard) AS run_id, pg_backend_pid() AS backend,
       ARRAY(SELECT id FROM own) AS own, ARRAY(SELECT id FROM lost UNION SELECT id FROM replayed) AS lost;
