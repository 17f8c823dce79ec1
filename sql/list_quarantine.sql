-- Deliveries in quarantine, the newest first.
--
-- in   source text, id bigint: only these; NULL: all; most integer
-- out  a row each: every column
SELECT id, source, cause, received_at, method, target, headers, body, body_bytes, released_at
  FROM webhook_quarantine
 WHERE (%(source)s::text IS NULL OR source = %(source)s) AND (%(id)s::bigint IS NULL OR id = %(id)s)
 ORDER BY id DESC
 LIMIT %(most)s;
