-- Hear from now on, on this connection, what notify.sql says.
--
-- in   nothing
-- out  nothing; notifications follow, of commits after this one's
LISTEN webhook_events;
