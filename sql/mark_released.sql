-- Note that a delivery was let in from quarantine.
--
-- in   id bigint
-- out  nothing
UPDATE webhook_quarantine SET released_at = now() WHERE id = %(id)s AND released_at IS NULL;
