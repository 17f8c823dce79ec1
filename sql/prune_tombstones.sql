-- Forget some events that were deleted long ago: delivered again, they are events again.
--
-- in   before timestamptz: deleted before; most integer
-- out  nothing; as many rows are gone as were found, at most so many
DELETE FROM webhook_tombstones
 WHERE ctid = ANY (ARRAY(SELECT ctid FROM webhook_tombstones WHERE deleted_at < %(before)s LIMIT %(most)s));
