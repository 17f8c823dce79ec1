-- Delete what was refused and kept before that time.
--
-- in   before timestamptz
-- out  nothing
DELETE FROM webhook_quarantine WHERE received_at < %(before)s;
