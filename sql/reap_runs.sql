-- Settle the runs of workers that died: blame the event that ran alone, suspect those that ran together.
--
-- in   most smallint: crashes after which an event is dead
-- out  id, alone boolean: whether it was blamed; dead boolean
--
-- A run is alive while its transaction holds its advisory lock, so whoever gets the lock knows that it is over,
-- without clock or heartbeat. A run that ended well has removed its row before it let go of the lock. One from
-- before the server's restart was ended by that.
WITH over AS (
    DELETE FROM webhook_runs
     WHERE pg_try_advisory_xact_lock(1751673961, run_id::integer)
    RETURNING worker, event_ids, booted_at
), blamed AS (
    SELECT event.id, over.worker, cardinality(over.event_ids) = 1 AS alone
      FROM over JOIN webhook_events AS event ON event.id = ANY (over.event_ids)
     WHERE event.processed_at IS NULL AND event.dead_at IS NULL
       AND over.booted_at = pg_postmaster_start_time()
     ORDER BY event.id
       FOR UPDATE OF event
), settled AS (
    UPDATE webhook_events AS event
       SET suspect = true,
           crashes = event.crashes + blamed.alone::integer,
           attempts = event.attempts + blamed.alone::integer,
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
