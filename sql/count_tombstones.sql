-- How many tombstones a prune would remove, for its dry run.
--
-- in   before timestamptz
-- out  one row; tombstones bigint
SELECT count(*) AS tombstones FROM webhook_tombstones WHERE deleted_at < %(before)s;
