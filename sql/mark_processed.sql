-- Close claimed events, in the transaction that holds their row locks and their handlers' writes.
--
-- in   ids bigint[]; outcome text: handled | no_handler; durations real[] (seconds), versions text[]: an element an event
-- out  nothing; fewer rows than ids only where a handler completed or removed an event itself
UPDATE webhook_events AS event
   SET processed_at = clock_timestamp(), outcome = %(outcome)s, last_error = NULL,
       suspect = false, parked = false, yields_at = NULL, lease = NULL,
       seconds = done.seconds, handler_version = done.version,
       -- A leased one's attempt was counted with its lease.
       attempts = least(event.attempts, 2147483646) + (%(outcome)s = 'handled' AND event.lease IS NULL)::integer
  FROM unnest(%(ids)s::bigint[], %(durations)s::real[], %(versions)s::text[]) AS done (id, seconds, version)
 WHERE event.id = done.id AND event.processed_at IS NULL AND event.dead_at IS NULL;
