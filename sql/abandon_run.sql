-- Take back what begin_run said, so that nobody is blamed: on another connection, before the batch is rolled back.
--
-- in   run_id bigint
-- out  nothing
DELETE FROM webhook_runs WHERE run_id = %(run_id)s;
