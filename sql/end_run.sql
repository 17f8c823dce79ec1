-- Let a batch's transaction be committed, as its last statement; what the commit would check is checked here.
--
-- in   run_id bigint
-- out  nothing; an error where this isn't the transaction that the run was claimed in
SELECT webhook_end_run(%(run_id)s);
