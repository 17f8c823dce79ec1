-- The figures of `processor status --totals`, over all events there are. Reads the whole table.
--
-- in   nothing
-- out  one row; event_types: how many there are; oldest_unprocessed: when it was received, NULL where there is none
--
-- By type first: counting distinct ones would sort the table.
SELECT coalesce(sum(unprocessed), 0)::bigint AS unprocessed,
       coalesce(sum(processed), 0)::bigint AS processed,
       count(*) AS event_types,
       min(oldest_unprocessed) AS oldest_unprocessed
  FROM (SELECT count(*) FILTER (WHERE processed_at IS NULL AND dead_at IS NULL) AS unprocessed,
               count(processed_at) AS processed,
               min(received_at) FILTER (WHERE processed_at IS NULL AND dead_at IS NULL) AS oldest_unprocessed
          FROM webhook_events
         GROUP BY event_type) AS by_type;
