-- Expect another event of a subject; see the function in migrations/0008_expectations.sql.
--
-- in   app_id, subject, event_type text (of the event that is put in the inbox when none comes); within interval;
--      payload json text
-- out  nothing of use
SELECT webhook_expect(%(app_id)s, %(subject)s, %(event_type)s, %(within)s, %(payload)s::jsonb);
