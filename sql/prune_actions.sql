-- Delete what was noted of actions that began before that time.
--
-- in   before timestamptz
-- out  nothing
DELETE FROM webhook_actions WHERE started_at < %(before)s;
