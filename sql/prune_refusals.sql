-- Delete the counts of days on which nothing was refused since that time.
--
-- in   before timestamptz
-- out  nothing
DELETE FROM webhook_refusals WHERE last_at < %(before)s;
