-- Delete dead letters for good, the record of their repeated deliveries; leave their keys.
--
-- in   ids bigint[]
-- out  removed integer; fewer than ids where one was replayed or skipped meanwhile
WITH chosen AS MATERIALIZED (
    SELECT id FROM webhook_events
     WHERE id = ANY (%(ids)s::bigint[]) AND dead_at IS NOT NULL
     ORDER BY id FOR UPDATE
), gone AS (
    DELETE FROM webhook_events WHERE id IN (SELECT id FROM chosen) RETURNING source, event_id
), repeats AS (
    DELETE FROM webhook_duplicates AS again USING gone
     WHERE again.source = gone.source AND again.event_id = gone.event_id
), tombstones AS (
    -- Of what came through the door: nobody delivers the inbox's own events again.
    INSERT INTO webhook_tombstones (source, event_id)
    SELECT source, event_id FROM gone WHERE source <> 'inbox'
    ON CONFLICT DO NOTHING
)
SELECT count(*) FROM gone;
