-- Close claimed events, in the transaction that holds their row locks and their handlers' writes.
--
-- in   ids bigint[]; outcome text: handled | no_handler
-- out  nothing; fewer rows than ids only where a handler completed or removed an event itself
UPDATE webhook_events
   SET processed_at = clock_timestamp(), outcome = %(outcome)s, last_error = NULL, suspect = false,
       attempts = attempts + CASE %(outcome)s WHEN 'handled' THEN 1 ELSE 0 END
 WHERE id = ANY (%(ids)s::bigint[]) AND processed_at IS NULL AND dead_at IS NULL;
