-- Add what a receiver refused since it last did, to the counts of the day.
--
-- in   sources, causes text[]; statuses smallint[]; counts bigint[]; first_ages, last_ages float8[]: seconds ago;
--      a place in each for a source, status and cause, which must not repeat
-- out  nothing
--
-- In the order of the key: of two receivers that add at once, one waits for the other, and never both.
INSERT INTO webhook_refusals AS known (day, source, status, cause, refused, first_at, last_at)
SELECT ((now() - last_age * interval '1 s') AT TIME ZONE 'UTC')::date, source, status, cause, refused,
       now() - first_age * interval '1 s', now() - last_age * interval '1 s'
  FROM unnest(%(sources)s::text[], %(statuses)s::smallint[], %(causes)s::text[], %(counts)s::bigint[],
              %(first_ages)s::float8[], %(last_ages)s::float8[])
       AS counted (source, status, cause, refused, first_age, last_age)
 ORDER BY 1, 2, 3, 4
ON CONFLICT (day, source, status, cause) DO UPDATE
   SET refused = known.refused + excluded.refused,
       first_at = least(known.first_at, excluded.first_at),
       last_at = greatest(known.last_at, excluded.last_at);
