-- Campaign progress, counted from calls; and an event for each call of a campaign that ends. handlers/campaigns.py.

CREATE VIEW vapi_calls AS
    SELECT app_id, call_id,
           CASE WHEN state IN ('scheduled', 'queued', 'initiated') THEN 'QUEUED'
                WHEN state = 'ringing' THEN 'RINGING'
                WHEN state = 'answered' THEN 'IN_PROGRESS'
                WHEN state = 'canceled' THEN 'CANCELED'
                WHEN state = 'timeout' THEN 'TIMEOUT'
                WHEN state = 'completed' AND ended_reason IN ('silence-timed-out', 'exceeded-max-duration') THEN 'TIMEOUT'
                WHEN state = 'completed' THEN 'ENDED'
                ELSE 'FAILED' END AS status,
           state, campaign_id, ended_at, ended_reason, cost_usd, recording_url, transcript, duration_seconds,
           carrier_call_id, last_status_at
      FROM calls
     WHERE provider = 'vapi';
COMMENT ON VIEW vapi_calls IS
    'Vapi''s calls with the status of a user interface: QUEUED, RINGING, IN_PROGRESS, ENDED, FAILED (busy and no answer, too), CANCELED, TIMEOUT.';

CREATE VIEW campaign_progress AS
    SELECT campaign.app_id, campaign.campaign_id, campaign.name, campaign.status,
           counted.total, counted.active, counted.completed, counted.failed, counted.answered,
           round(counted.completed::numeric / nullif(counted.total, 0), 4) AS completed_rate,
           round(counted.failed::numeric / nullif(counted.total, 0), 4) AS failed_rate,
           round((counted.total - counted.active)::numeric
                 / nullif(greatest(counted.total, campaign.planned_calls), 0), 4) AS ended_rate,
           campaign.planned_calls, campaign.created_at, campaign.completed_at
      FROM campaigns AS campaign
     CROSS JOIN LATERAL (
        SELECT count(*) AS total,
               count(*) FILTER (WHERE NOT call_ended(state)) AS active,
               count(*) FILTER (WHERE state = 'completed') AS completed,
               count(*) FILTER (WHERE call_ended(state) AND state <> 'completed') AS failed,
               count(*) FILTER (WHERE state IN ('answered', 'completed')) AS answered
          FROM calls AS call
         WHERE (call.app_id, call.campaign_id) = (campaign.app_id, campaign.campaign_id)) AS counted;
COMMENT ON VIEW campaign_progress IS
    'total = active + completed + failed (busy, no answer, canceled and timeout, too); rates are shares of total, ended_rate of planned_calls.';

-- Whoever changes the row, a handler or the application, and whatever rights it has: the campaign is looked at when its
-- call has ended.
CREATE FUNCTION campaign_call_ended() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM webhook_emit(
        NEW.app_id, 'campaign.call_ended', 'campaign/' || NEW.campaign_id,
        NEW.provider || ':' || NEW.call_id || ':' || pg_current_xact_id()::text,
        jsonb_build_object('campaign_id', NEW.campaign_id, 'provider', NEW.provider, 'call_id', NEW.call_id));
    RETURN NULL;
END $$;

CREATE TRIGGER campaign_call_inserted AFTER INSERT ON calls FOR EACH ROW
    WHEN (NEW.campaign_id IS NOT NULL AND call_ended(NEW.state))
    EXECUTE FUNCTION campaign_call_ended();
CREATE TRIGGER campaign_call_ended AFTER UPDATE OF state, campaign_id ON calls FOR EACH ROW
    WHEN (NEW.campaign_id IS NOT NULL AND call_ended(NEW.state)
          AND (NOT call_ended(OLD.state) OR NEW.campaign_id IS DISTINCT FROM OLD.campaign_id))
    EXECUTE FUNCTION campaign_call_ended();
