-- The call log, and the questions its users ask, as views. handlers/call_log.py keeps what they read.

CREATE VIEW call_log AS
    SELECT call.app_id, call.provider, call.call_id, call.direction, call.from_number, call.to_number, call.state,
           told.started_at, told.answered_at, call.ended_at,
           extract(epoch FROM told.answered_at - told.started_at)::numeric AS answer_seconds,
           call.duration_seconds, call.sip_code, call.ended_reason, call.answered_by, call.recording_url
      FROM calls AS call
     CROSS JOIN LATERAL (
        SELECT coalesce(min(coalesce(occurred_at, received_at)), call.created_at) AS started_at,
               min(coalesce(occurred_at, received_at)) FILTER (WHERE state = 'answered') AS answered_at
          FROM call_events AS event
         WHERE (event.app_id, event.provider, event.call_id) = (call.app_id, call.provider, call.call_id)) AS told;
COMMENT ON VIEW call_log IS
    'Each call: when its first event happened, when it was answered, when it ended. Times are the provider''s, else those of receipt.';

CREATE VIEW calls_by_hour AS
    SELECT app_id, provider, date_trunc('hour', started_at) AS hour,
           count(*) AS calls,
           count(*) FILTER (WHERE direction = 'inbound') AS inbound,
           count(*) FILTER (WHERE state IN ('answered', 'completed')) AS answered
      FROM call_log
     GROUP BY app_id, provider, date_trunc('hour', started_at);

CREATE VIEW answer_rates AS
    SELECT app_id, provider, direction,
           count(*) AS ended,
           count(*) FILTER (WHERE state = 'completed') AS answered,
           round(count(*) FILTER (WHERE state = 'completed')::numeric / count(*), 4) AS answer_rate,
           round(avg(answer_seconds) FILTER (WHERE state = 'completed'), 1) AS mean_answer_seconds
      FROM call_log
     WHERE call_ended(state)
     GROUP BY app_id, provider, direction;
COMMENT ON VIEW answer_rates IS 'Of calls that ended; completed is answered. mean_answer_seconds: from the first event to the answer.';

CREATE VIEW call_durations AS
    SELECT app_id, provider, direction, count(*) AS calls,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_seconds::float8) AS p50_seconds,
           percentile_cont(0.9) WITHIN GROUP (ORDER BY duration_seconds::float8) AS p90_seconds,
           percentile_cont(0.99) WITHIN GROUP (ORDER BY duration_seconds::float8) AS p99_seconds,
           max(duration_seconds) AS max_seconds
      FROM calls
     WHERE state = 'completed' AND duration_seconds IS NOT NULL
     GROUP BY app_id, provider, direction;
