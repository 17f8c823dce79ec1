-- Let a batch's transaction be committed: before its constraints are checked, which is before its run is taken back.
--
-- in   run_id bigint
-- out  run_id bigint; no row: this isn't the transaction that the run was claimed in
DELETE FROM webhook_guards WHERE run_id = %(run_id)s RETURNING run_id;
