-- Dead letters by what they died of.
--
-- in   ids bigint[]
-- out  a row a group, the largest first: event_type; reason: how the error begins, with what is quoted, a number
--      or a worker's name left out; events: how many; oldest, newest: when received; example bigint: its newest event's id
SELECT event_type,
       left(regexp_replace(last_error, $$worker \S+|'[^']*'|"[^"]*"|\d+$$, '…', 'g'), 80) AS reason,
       count(*) AS events, min(received_at) AS oldest, max(received_at) AS newest, max(id) AS example
  FROM webhook_events
 WHERE id = ANY (%(ids)s::bigint[]) AND dead_at IS NOT NULL
 GROUP BY 1, 2
 ORDER BY count(*) DESC, 1, 2;
