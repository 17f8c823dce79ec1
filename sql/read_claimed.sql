-- Read the events that this transaction has claimed: a statement of its own, so that it sees them as locked.
--
-- in   ids bigint[]
-- out  a row an event, in the order of their ids; attempt counts the coming run: 1, 2, ...; headers and payload as
--      text, since JSON that the driver can't read would fail the whole batch; lease: one that has lapsed
--
-- Attempts that were written by hand may be as many as the column holds; they are counted up to there, not past it.
SELECT id, app_id, source, provider, event_id, event_type, provider_type, subject, method, url,
       headers::text AS headers_json, body, payload::text AS payload_json, parse_error, occurred_at, received_at,
       least(attempts, 2147483646) + 1 AS attempt, replays, suspect, lease
  FROM webhook_events
 WHERE id = ANY (%(ids)s::bigint[])
 ORDER BY id;
