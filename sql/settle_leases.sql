-- Settle leases whose worker is dead or silent: blame what ran alone, have the others run alone.
--
-- in   lease bigint: a worker's, NULL: none; ids bigint[]: lapsed ones, claimed by this transaction;
--      most smallint: crashes after which an event is dead; worker, how text: who died, and how
-- out  id, alone boolean: whether it was blamed; dead boolean
--
-- Only a suspect is leased alone, so a suspect is to blame. For a row that somebody else has locked nobody waits: its
-- lease lapses.
WITH lapsed AS (
    SELECT id, suspect AS alone FROM webhook_events
     WHERE (lease = %(lease)s::bigint OR (lease IS NOT NULL AND id = ANY (%(ids)s::bigint[])))
       AND processed_at IS NULL AND dead_at IS NULL
     ORDER BY id FOR UPDATE SKIP LOCKED
), settled AS (
    UPDATE webhook_events AS event
       SET lease = NULL,
           suspect = true,
           parked = false,
           crashes = event.crashes + lapsed.alone::integer,
           last_error = CASE WHEN lapsed.alone THEN 'Crash: ' || %(how)s ELSE event.last_error END,
           next_attempt_at = clock_timestamp()
               + CASE WHEN lapsed.alone THEN interval '1 second' * 2 ^ event.crashes ELSE '0' END,
           dead_at = CASE WHEN lapsed.alone AND event.crashes + 1 >= %(most)s THEN clock_timestamp() END
      FROM lapsed
     WHERE event.id = lapsed.id
    RETURNING event.id, lapsed.alone, event.dead_at IS NOT NULL AS dead, event.replays, event.attempts, event.last_error
), kept AS (
    INSERT INTO webhook_attempts (event_id, replays, attempt, result, worker, error_class, error)
    SELECT id, replays, attempts, CASE WHEN dead THEN 'dead' ELSE 'retry' END, %(worker)s, 'Crash', last_error
      FROM settled WHERE alone
)
SELECT id, alone, dead FROM settled;
