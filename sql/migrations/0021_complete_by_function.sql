-- A batch's end is planned once a session. Sent as statements it was planned for each batch: half of what it took.

-- Close claimed events in the transaction that holds their row locks and their handlers' writes: *outcome* is handled or
-- no_handler; durations (seconds) and versions have an element an event. One that a handler completed or removed itself
-- is left as it is.
CREATE FUNCTION webhook_complete(event_ids bigint[], result text, durations real[], versions text[]) RETURNS void
LANGUAGE plpgsql
-- By its key: without statistics the planner would take an index of what is pending, and read the backlog.
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
AS $$
BEGIN
    UPDATE webhook_events
       SET processed_at = clock_timestamp(), outcome = result, last_error = NULL,
           suspect = false, parked = false, yields_at = NULL, lease = NULL,
           -- By its place in the lists: a join would look each row up by itself.
           seconds = durations[array_position(event_ids, id)],
           handler_version = versions[array_position(event_ids, id)],
           -- A leased one's attempt was counted with its lease.
           attempts = least(attempts, 2147483646) + (result = 'handled' AND lease IS NULL)::integer
     WHERE id = ANY (event_ids) AND coalesce(processed_at, dead_at) IS NULL;
END $$;

-- Let a run's transaction be committed, as its last statement: after what the commit would have checked, and before its
-- run is taken back, so that nobody is blamed. Raises where this isn't the transaction that the run was claimed in.
CREATE FUNCTION webhook_end_run(this_run bigint) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    DELETE FROM webhook_guards WHERE run_id = this_run;
    IF NOT FOUND THEN
        RAISE invalid_transaction_termination USING MESSAGE = 'a handler ended the transaction it was given, and began another';
    END IF;
    SET CONSTRAINTS ALL IMMEDIATE;
    DELETE FROM webhook_runs
     WHERE run_id IN (SELECT run_id FROM webhook_runs WHERE run_id = this_run FOR UPDATE SKIP LOCKED);
END $$;
