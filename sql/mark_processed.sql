-- Close claimed events, in the transaction that holds their row locks and their handlers' writes.
--
-- in   ids bigint[]; outcome text: handled | no_handler; durations real[] (seconds), versions text[]: an element an event
-- out  nothing; fewer rows than ids only where a handler completed or removed an event itself
UPDATE webhook_events
   SET processed_at = clock_timestamp(), outcome = %(outcome)s, last_error = NULL,
       suspect = false, parked = false, yields_at = NULL, lease = NULL,
       -- By its place in the lists: a join would look each row up by itself.
       seconds = (%(durations)s::real[])[array_position(%(ids)s::bigint[], id)],
       handler_version = (%(versions)s::text[])[array_position(%(ids)s::bigint[], id)],
       -- A leased one's attempt was counted with its lease.
       attempts = least(attempts, 2147483646) + (%(outcome)s = 'handled' AND lease IS NULL)::integer
 WHERE id = ANY (%(ids)s::bigint[])
   -- Not as an index has it: without statistics the planner would take that, and read the backlog from end to end.
   AND coalesce(processed_at, dead_at) IS NULL;
