-- Tell whether the server is still at a statement that its client has waited for a while.
--
-- in   backend, own_backend integer: the session's process, and this one's, as its clients were told
-- out  one row, true where it is: waiting for a lock or a standby is work
--
-- False where the session is gone, or has had nothing to do for a second. What is not tracked counts as work, and so
-- does everything behind a pooler, which tells its clients numbers of its own.
SELECT pg_backend_pid() <> %(own_backend)s::integer
    OR EXISTS (SELECT FROM pg_stat_activity
                WHERE pid = %(backend)s::integer
                  AND (NOT starts_with(coalesce(state, ''), 'idle') OR state_change > now() - interval '1 second'));
