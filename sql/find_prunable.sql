-- One step of retention's walk over the events: looks at the next so many, in the order of their ids.
--
-- in   after bigint: the last id of the step before; before timestamptz; most integer: to look at;
--      bodies boolean: look for bodies to remove, else for events to delete
-- out  one row; last bigint: to go on from, NULL at the end of the walk;
--      ids bigint[]: those processed before that time, NULL where there is none
--
-- The primary key's order, not the BRIN index on processed_at: where deleted rows' space is used again, that
-- index knows old and new times for each range, and every step would read the table. The walk ends where only
-- events are left that were received since.
SELECT CASE WHEN bool_or(received_at < %(before)s) THEN max(id) END AS last,
       array_agg(id) FILTER (WHERE processed_at < %(before)s AND NOT (%(bodies)s AND body_removed_at IS NOT NULL))
           AS ids
  FROM (SELECT id, received_at, processed_at, body_removed_at
          FROM webhook_events
         WHERE id > %(after)s
         ORDER BY id
         LIMIT %(most)s) AS looked;
