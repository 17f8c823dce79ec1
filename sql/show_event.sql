-- Everything kept of one event, for its page.
--
-- in   id bigint
-- out  one row or none; duplicates: deliveries after the first; other_bodies: those with other bytes
SELECT event.*,
       (SELECT count(*) FROM webhook_duplicates AS again
         WHERE again.source = event.source AND again.event_id = event.event_id) AS duplicates,
       (SELECT count(*) FROM webhook_duplicates AS again
         WHERE again.source = event.source AND again.event_id = event.event_id
           AND NOT again.same_body) AS other_bodies
  FROM webhook_events AS event
 WHERE event.id = %(id)s;
