-- Learn whether a session is ours alone, and have its statements planned along the indexes if it is: they are by key,
-- and a plan that is kept must still do when a table has grown.
--
-- in   backend integer: the server's process, as the driver was told; a pooler tells its clients other numbers
-- out  true; null: somebody stands between, and nothing is set, since others may be given this session
SELECT CASE WHEN pg_backend_pid() = %(backend)s
            THEN set_config('enable_seqscan', 'off', false) || set_config('enable_hashjoin', 'off', false)
                 || set_config('enable_mergejoin', 'off', false) IS NOT NULL END;
