-- Say, before any handler starts, which events a worker is about to run; on a connection of its own, committed.
--
-- in   run_id bigint; worker text; ids bigint[]
-- out  nothing
INSERT INTO webhook_runs (run_id, worker, event_ids) VALUES (%(run_id)s, %(worker)s, %(ids)s::bigint[]);
