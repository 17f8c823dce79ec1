-- Count the events of the last minutes that are about a subject, or have a body.
--
-- in   source, subject text (NULL: by the body alone); body bytea
-- out  count
SELECT count(*)
  FROM webhook_events
 WHERE source = %(source)s
   AND received_at > now() - interval '10 minutes'
   AND (subject = %(subject)s::text OR body = %(body)b);
