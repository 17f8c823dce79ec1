-- Delete the record of deliveries repeated after their event was deleted.
--
-- in   before timestamptz: repeated before
-- out  nothing
DELETE FROM webhook_duplicates AS again
 WHERE received_at < %(before)s
   AND NOT EXISTS (SELECT FROM webhook_events AS event
                    WHERE event.source = again.source AND event.event_id = again.event_id);
