-- A number for the next run of a worker.
--
-- in   nothing
-- out  run_id bigint
SELECT nextval('webhook_run_ids') AS run_id;
