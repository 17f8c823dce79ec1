-- Find what an earlier insert of this very delivery may have left: one whose answer was lost.
--
-- in   source, event_id text; body bytea
-- out  id of the event of these bytes; no row: there is none
--
-- Nothing is written for it, but it must be as durable as that insert was meant to be before its delivery is forgotten:
-- a message in the log makes this commit wait for whatever a commit waits for, a disk or a standby.
SELECT event.id
  FROM webhook_events AS event,
       (SELECT pg_logical_emit_message(true, 'webhook_inbox', ''),
               CASE WHEN current_setting('synchronous_commit') IN ('off', 'local')
                    THEN set_config('synchronous_commit', 'on', true) END) AS durable
 WHERE event.source = %(source)s AND event.event_id = %(event_id)s AND event.body_sha256 = sha256(%(body)b);
