-- Put an event of our own into the inbox, unless its key is there already, and wake who waits for events.
--
-- in   app_id, event_type, subject, key text; payload json text; occurred_at timestamptz
-- out  id: the new row's; NULL: it is there already
SELECT webhook_emit(%(app_id)s, %(event_type)s, %(subject)s, %(key)s, %(payload)s::jsonb, %(occurred_at)s::timestamptz);
