-- Expect it no longer.
--
-- in   app_id, subject, event_type text
-- out  nothing of use
SELECT webhook_fulfil(%(app_id)s, %(subject)s, %(event_type)s);
