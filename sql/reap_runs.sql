-- Settle the runs of workers that died: blame the event that ran alone, suspect those that ran together.
--
-- in   most smallint: crashes after which an event is dead
-- out  id, alone boolean: whether it was blamed; dead boolean
--
-- A run is alive while its transaction holds its advisory lock, so whoever gets the lock knows that it is over,
-- without clock or heartbeat. A run that ended well has removed its row before it let go of the lock. One from
-- before the server's restart was ended by that.
-- Where somebody else has locked an event of a run, nobody waits: that run is settled another time.
WITH over AS MATERIALIZED (
    SELECT run_id, worker, event_ids, booted_at FROM webhook_runs
     WHERE pg_try_advisory_xact_lock(1751673961, run_id::integer)
), pending AS MATERIALIZED (
    SELECT over.run_id, event.id
      FROM over JOIN webhook_events AS event ON event.id = ANY (over.event_ids)
     WHERE event.processed_at IS NULL AND event.dead_at IS NULL
), locked AS MATERIALIZED (
    SELECT id FROM webhook_events
     WHERE id IN (SELECT id FROM pending) AND processed_at IS NULL AND dead_at IS NULL
     ORDER BY id FOR UPDATE SKIP LOCKED
), done AS (
    DELETE FROM webhook_runs AS run USING over
     WHERE run.run_id = over.run_id
       AND NOT EXISTS (SELECT FROM pending
                        WHERE pending.run_id = run.run_id AND pending.id NOT IN (SELECT id FROM locked))
    RETURNING run.run_id, run.worker, cardinality(run.event_ids) = 1 AS alone, run.booted_at
), blamed AS (
    SELECT pending.id, done.worker, done.alone
      FROM done JOIN pending USING (run_id)
     WHERE done.booted_at = pg_postmaster_start_time()
), settled AS (
    UPDATE webhook_events AS event
       SET suspect = true,
           parked = false,
           crashes = event.crashes + blamed.alone::integer,
           attempts = least(event.attempts, 2147483646) + blamed.alone::integer,
           last_error = CASE WHEN blamed.alone
                             THEN 'Crash: worker ' || blamed.worker || ' died while it handled this event'
                             ELSE event.last_error END,
           next_attempt_at = CASE WHEN blamed.alone
                                  THEN clock_timestamp() + interval '1 second' * 2 ^ event.crashes
                                  ELSE event.next_attempt_at END,
           dead_at = CASE WHEN blamed.alone AND event.crashes + 1 >= %(most)s THEN clock_timestamp() END
      FROM blamed
     WHERE event.id = blamed.id
    RETURNING event.id, blamed.alone, event.dead_at IS NOT NULL AS dead,
              event.replays, event.attempts, event.last_error, blamed.worker
), kept AS (
    INSERT INTO webhook_attempts (event_id, replays, attempt, result, worker, error_class, error)
    SELECT id, replays, attempts, CASE WHEN dead THEN 'dead' ELSE 'retry' END, worker, 'Crash', last_error
      FROM settled WHERE alone
)
SELECT id, alone, dead FROM settled;
