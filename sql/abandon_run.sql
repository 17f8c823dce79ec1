-- Take back what begin_run said, so that nobody is blamed: as a batch's last statement; or on another connection, before
-- the batch is rolled back.
--
-- in   run_id bigint
-- out  nothing
--
-- Where the batch has taken it back itself, not yet committed, there is nothing to wait for.
DELETE FROM webhook_runs
 WHERE run_id IN (SELECT run_id FROM webhook_runs WHERE run_id = %(run_id)s FOR UPDATE SKIP LOCKED);
