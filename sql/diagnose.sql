-- What of the server's settings and our tables' state matters to the inbox.
--
-- in   nothing
-- out  one row; now: to compare clocks; table_autovacuum: NULL where the table is not ours to see or not there
SELECT clock_timestamp() AS now,
       current_setting('server_version_num')::integer AS version_num,
       current_setting('server_version') AS version,
       current_setting('fsync')::boolean AS fsync,
       current_setting('full_page_writes')::boolean AS full_page_writes,
       current_setting('synchronous_commit') AS synchronous_commit,
       current_setting('autovacuum')::boolean AND current_setting('track_counts')::boolean AS autovacuum,
       pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean AS read_only,
       pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS sees_all,
       (SELECT relpersistence = 'u' FROM pg_class WHERE oid = to_regclass('webhook_runs')) AS runs_unlogged,
       (SELECT NOT coalesce(reloptions @> '{autovacuum_enabled=false}'
                            OR reloptions @> '{autovacuum_enabled=off}', false)
          FROM pg_class WHERE oid = to_regclass('webhook_events')) AS table_autovacuum,
       (SELECT n_dead_tup FROM pg_stat_user_tables WHERE relid = to_regclass('webhook_events')) AS dead_rows,
       (SELECT n_live_tup FROM pg_stat_user_tables WHERE relid = to_regclass('webhook_events')) AS live_rows;
