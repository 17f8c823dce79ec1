-- Note that a command begins to change something.
--
-- in   verb, who, reason text; chosen json text: what it was asked for; ids bigint[]: the events it is to change
-- out  id bigint of the action
--
-- Adjacent ids become one range, so that an hour's events take a few bytes.
INSERT INTO webhook_actions (verb, who, reason, chosen, event_ids, events)
SELECT %(verb)s, %(who)s, %(reason)s, %(chosen)s::jsonb,
       (SELECT coalesce(range_agg(int8range(id, id, '[]')), '{}') FROM unnest(%(ids)s::bigint[]) AS id),
       cardinality(%(ids)s::bigint[])
RETURNING id;
