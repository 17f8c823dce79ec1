-- Take back what begin_run said, and let the transaction be committed: in the batch's transaction; or, before that is
-- rolled back, from another connection.
--
-- in   run_id bigint
-- out  nothing
WITH guard AS (DELETE FROM webhook_guards WHERE run_id = %(run_id)s)
DELETE FROM webhook_runs WHERE run_id = %(run_id)s;
