-- Put an event into the inbox for each expectation that is overdue, and wake who waits for events.
--
-- in   nothing
-- out  id, event_type of each, a thousand at most
--
-- Crash-safe because it is one statement: an expectation goes as its event comes, or neither does. A backlog is not
-- silence: while the tenant's inbox has an event of the subject that is to be handled yet, nothing is said of it. A
-- handler's fulfilment is committed with its event's processed_at, so one of the two is always seen, or the row is locked.
-- As a subquery with OFFSET, the planner probes the index of pending events a subject, and never joins the history.
WITH overdue AS MATERIALIZED (
    SELECT app_id, subject, event_type FROM webhook_expectations AS expected
     WHERE due_at <= now()
       AND NOT EXISTS (SELECT FROM webhook_events AS event
                        WHERE event.subject = expected.subject AND event.app_id = expected.app_id
                          AND event.processed_at IS NULL AND event.dead_at IS NULL OFFSET 0)
     ORDER BY due_at
     LIMIT 1000
       FOR UPDATE SKIP LOCKED
), taken AS (
    DELETE FROM webhook_expectations AS expected USING overdue
     WHERE expected.app_id = overdue.app_id AND expected.subject = overdue.subject
       AND expected.event_type = overdue.event_type
    RETURNING expected.app_id, expected.subject, expected.event_type, expected.number, expected.due_at,
              expected.payload || jsonb_build_object(
                  'expected_within_seconds', extract(epoch FROM expected.due_at - expected.armed_at)::float8,
                  'armed_at', expected.armed_at) AS payload
)
SELECT webhook_emit(app_id, event_type, subject, 'overdue-' || number, payload, due_at) AS id, event_type
  FROM taken ORDER BY due_at, number;
