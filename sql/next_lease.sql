-- Take a number for a worker's leases.
--
-- in   nothing
-- out  lease bigint
SELECT nextval('webhook_run_ids') AS lease;
