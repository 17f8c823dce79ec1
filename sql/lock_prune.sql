-- Wait until nobody else is about to begin a prune; until the transaction ends.
--
-- in   nothing
-- out  nothing
SELECT pg_advisory_xact_lock(1751673961, 0);
