-- Which of these events have no body any more, so that they can't be handled again.
--
-- in   ids bigint[]
-- out  id
SELECT id FROM webhook_events WHERE id = ANY (%(ids)s::bigint[]) AND body_removed_at IS NOT NULL;
