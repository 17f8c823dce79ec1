-- Ids of the events that match every filter given.
--
-- in   ids bigint[]; source, type, subject text; state text: waiting | retrying | dead | processed
--      error text: part of last_error; since, until timestamptz: received_at from, before;
--      after bigint: only greater ids; dead_for interval: dead since longer ago;
--      newest boolean: newest first; most integer. NULL: not filtered, not limited
-- out  id
--
-- The lines on dead_at and processed_at repeat what state says, so that a constant state lets the
-- planner take the small partial index.
SELECT id
  FROM webhook_events
 WHERE (%(ids)s::bigint[] IS NULL OR id = ANY (%(ids)s::bigint[]))
   AND (%(source)s::text IS NULL OR source = %(source)s)
   AND (%(type)s::text IS NULL OR event_type = %(type)s)
   AND (%(subject)s::text IS NULL OR subject = %(subject)s)
   AND (%(error)s::text IS NULL OR strpos(lower(last_error), lower(%(error)s)) > 0)
   AND (%(since)s::timestamptz IS NULL OR received_at >= %(since)s)
   AND (%(until)s::timestamptz IS NULL OR received_at < %(until)s)
   AND (%(after)s::bigint IS NULL OR id > %(after)s)
   AND (%(dead_for)s::interval IS NULL OR dead_at < now() - %(dead_for)s::interval)
   AND (%(state)s::text IS DISTINCT FROM 'processed' OR processed_at IS NOT NULL)
   AND (%(state)s::text IS DISTINCT FROM 'dead' OR dead_at IS NOT NULL)
   AND (%(state)s::text IS NULL OR %(state)s NOT IN ('waiting', 'retrying')
        OR (processed_at IS NULL AND dead_at IS NULL))
   AND (%(state)s::text IS DISTINCT FROM 'waiting' OR last_error IS NULL)
   AND (%(state)s::text IS DISTINCT FROM 'retrying' OR last_error IS NOT NULL)
 ORDER BY CASE WHEN %(newest)s THEN -id ELSE id END
 LIMIT %(most)s;
