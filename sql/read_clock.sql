-- The database's time, the only one that counts.
--
-- in   nothing
-- out  now timestamptz
SELECT clock_timestamp() AS now;
