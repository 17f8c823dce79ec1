-- Tell whether a source or a type is one that events have, before it is paused: names are typed by hand.
--
-- in   kind text: source | type; name text
-- out  one row: known boolean; of types those count that an unprocessed event has, or one of the latest 10,000
--
-- Sources are looked up in their unique index. Types have none, so that not the whole history is read for a wrong name.
SELECT CASE %(kind)s
       WHEN 'source' THEN EXISTS (SELECT FROM webhook_events WHERE source = %(name)s)
       ELSE EXISTS (SELECT FROM webhook_events
                     WHERE event_type = %(name)s AND processed_at IS NULL AND dead_at IS NULL)
         OR EXISTS (SELECT FROM (SELECT event_type FROM webhook_events ORDER BY id DESC LIMIT 10000) AS latest
                     WHERE event_type = %(name)s)
       END AS known;
