-- Delete the oldest deliveries of a source beyond so many.
--
-- in   source text; most integer
-- out  nothing
DELETE FROM webhook_quarantine
 WHERE source = %(source)s
   AND id <= (SELECT id FROM webhook_quarantine WHERE source = %(source)s
               ORDER BY id DESC OFFSET %(most)s LIMIT 1);
