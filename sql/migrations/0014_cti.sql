-- What an agent's screen shows of Dialpad's calls. handlers/cti.py keeps what it reads.

CREATE VIEW cti_calls AS
    SELECT call.app_id, call.call_id,
           CASE WHEN call.state IN ('ringing', 'queued', 'scheduled') THEN 'ringing'
                WHEN call.state IN ('initiated', 'answered') THEN 'active'
                -- Dialpad says missed, and then that it was hung up, which is no news.
                WHEN call.state = 'missed' OR (call.state = 'no_answer' AND EXISTS (
                    SELECT FROM call_events AS event
                     WHERE (event.app_id, event.provider, event.call_id) = (call.app_id, call.provider, call.call_id)
                       AND event.state = 'missed')) THEN 'missed'
                ELSE 'ended' END AS status,
           coalesce(call.entry_point_call_id, call.master_call_id, call.call_id) AS conversation_id,
           call.direction, call.from_number, call.to_number, call.ended_at,
           coalesce(call.talk_seconds, call.duration_seconds) AS talk_seconds, call.total_seconds,
           call.recording_url, call.voicemail_url, call.transcript, call.state, call.last_status_at
      FROM calls AS call
     WHERE call.provider = 'dialpad';
COMMENT ON VIEW cti_calls IS 'A row a leg: active, ringing, missed or ended; conversation_id joins the legs of one call.';

CREATE VIEW cti_conversations AS
    SELECT app_id, conversation_id, count(*) AS legs,
           CASE WHEN bool_or(status = 'active') THEN 'active'
                WHEN bool_or(status = 'ringing') THEN 'ringing'
                WHEN bool_and(status = 'missed') THEN 'missed'
                ELSE 'ended' END AS status,
           array_agg(call_id ORDER BY call_id) AS call_ids,
           max(talk_seconds) AS talk_seconds, max(ended_at) AS ended_at
      FROM cti_calls
     GROUP BY app_id, conversation_id;
COMMENT ON VIEW cti_conversations IS 'A row a call, with all of its legs: the one that came in, those of a group, those it was transferred to.';
