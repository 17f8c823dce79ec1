-- Lease claimed events to a worker that runs them after this transaction, which holds their row locks.
--
-- in   lease bigint: the worker's number; ids bigint[]; ttl interval: then it is taken for dead
-- out  nothing
--
-- The lease is next_attempt_at, moved past it: nobody finds the event due, and its followers wait as behind any event
-- that waits. The attempt is counted here, before its handler starts.
UPDATE webhook_events
   SET lease = %(lease)s, next_attempt_at = clock_timestamp() + %(ttl)s::interval,
       attempts = least(attempts, 2147483646) + 1, parked = false
 WHERE id = ANY (%(ids)s::bigint[])
   AND coalesce(processed_at, dead_at) IS NULL;  -- as in mark_processed
