-- Take back what begin_run said: in the batch's transaction, or before that is rolled back.
--
-- in   run_id bigint
-- out  nothing
DELETE FROM webhook_runs WHERE run_id = %(run_id)s;
