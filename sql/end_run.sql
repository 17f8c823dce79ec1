-- Take back what begin_run said, and let the transaction be committed: the last statement of a batch.
--
-- in   run_id bigint
-- out  whole boolean: this is the transaction that the run was claimed in; false: nothing was taken back
WITH guard AS (DELETE FROM webhook_guards WHERE run_id = %(run_id)s RETURNING run_id),
     run AS (DELETE FROM webhook_runs WHERE run_id IN (SELECT run_id FROM guard))
SELECT EXISTS (SELECT FROM guard) AS whole;
