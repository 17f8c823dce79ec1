-- Keep the transaction this runs in from ever being committed: see webhook_guards in 0005_claim.sql.
--
-- in   nothing
-- out  run_id bigint: for end_run, which tells whether it still is that transaction
INSERT INTO webhook_guards VALUES (nextval('webhook_run_ids')) RETURNING run_id;
