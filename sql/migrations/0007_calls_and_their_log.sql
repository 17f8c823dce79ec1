-- What the systems in handlers/ share: campaigns, calls and their log, messages.
--
-- What a provider's payload means, and what it changes, is not known here: handlers/providers/ and handlers/progress.py.

CREATE TABLE campaigns (
    app_id        text        NOT NULL DEFAULT 'default' CHECK (app_id <> ''),
    campaign_id   text        NOT NULL CHECK (campaign_id <> ''),
    name          text        NOT NULL DEFAULT '',
    status        text        NOT NULL DEFAULT 'RUNNING' CHECK (status IN ('RUNNING', 'COMPLETED')),
    planned_calls integer     CHECK (planned_calls > 0),
    created_at    timestamptz NOT NULL DEFAULT now(),
    completed_at  timestamptz,
    PRIMARY KEY (app_id, campaign_id),
    CONSTRAINT campaigns_completed_with_time CHECK ((status = 'COMPLETED') = (completed_at IS NOT NULL))
);
COMMENT ON TABLE campaigns IS 'Calls that belong together; made by the application, or by the first event that names one.';
COMMENT ON COLUMN campaigns.app_id IS 'tenant, from the source that received the event';
COMMENT ON COLUMN campaigns.status IS 'COMPLETED is final: set once, when its last active call has ended';
COMMENT ON COLUMN campaigns.planned_calls IS 'NULL: as many as there are rows in calls; else it is not completed before so many have ended';
COMMENT ON COLUMN campaigns.completed_at IS 'when its last call ended, as far as that was known when all had';

-- Rank of a state. timeout is what we assume after silence: whatever end a provider tells counts more.
CREATE OR REPLACE FUNCTION call_rank(state text) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    CASE state WHEN 'scheduled' THEN 0 WHEN 'queued' THEN 1 WHEN 'initiated' THEN 2 WHEN 'ringing' THEN 3
               WHEN 'answered' THEN 4 WHEN 'timeout' THEN 5 ELSE 6 END;

CREATE FUNCTION call_ended(state text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    call_rank(state) >= 5;

ALTER TABLE calls
    DROP CONSTRAINT calls_state_check,
    ADD CONSTRAINT calls_state_check CHECK (state IN ('scheduled', 'queued', 'initiated', 'ringing', 'answered',
        'timeout', 'completed', 'busy', 'no_answer', 'failed', 'canceled', 'missed')),
    -- A call that an application makes before any event has no event yet.
    ALTER COLUMN app_id SET DEFAULT 'default',
    ALTER COLUMN state SET DEFAULT 'queued',
    ALTER COLUMN webhook_event_id DROP NOT NULL,
    ADD COLUMN campaign_id         text,
    ADD COLUMN direction           text CHECK (direction IN ('inbound', 'outbound')),
    ADD COLUMN from_number         text,
    ADD COLUMN to_number           text,
    ADD COLUMN ended_at            timestamptz,
    ADD COLUMN ended_reason        text,
    ADD COLUMN duration_seconds    numeric CHECK (duration_seconds >= 0),
    ADD COLUMN talk_seconds        numeric CHECK (talk_seconds >= 0),
    ADD COLUMN total_seconds       numeric CHECK (total_seconds >= 0),
    ADD COLUMN sip_code            integer,
    ADD COLUMN error_code          text,
    ADD COLUMN answered_by         text,
    ADD COLUMN recording_url       text,
    ADD COLUMN recording_seconds   numeric CHECK (recording_seconds >= 0),
    ADD COLUMN voicemail_url       text,
    ADD COLUMN transcript          text,
    ADD COLUMN cost_usd            numeric,
    ADD COLUMN carrier_call_id     text,
    ADD COLUMN parent_call_id      text,
    ADD COLUMN master_call_id      text,
    ADD COLUMN entry_point_call_id text,
    ADD COLUMN last_status_at      timestamptz,
    ADD COLUMN created_at          timestamptz NOT NULL DEFAULT now(),
    ADD FOREIGN KEY (app_id, campaign_id) REFERENCES campaigns,
    ADD CONSTRAINT calls_ended_with_state CHECK (ended_at IS NULL OR call_ended(state));
-- Of a row of version 0.1 we know when it got its state; this day would put all of them into one hour of the call log.
UPDATE calls
   SET created_at = least(occurred_at, updated_at),
       last_status_at = coalesce(occurred_at, updated_at),
       ended_at = CASE WHEN call_ended(state) THEN coalesce(occurred_at, updated_at) END;
-- A late or repeated event that tells nothing new writes nothing; updated_at is when the row last changed.
CREATE FUNCTION touch_updated_at() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    NEW.updated_at := clock_timestamp();
    RETURN NEW;
END $$;
CREATE TRIGGER calls_1_redundant BEFORE UPDATE ON calls FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
CREATE TRIGGER calls_2_touch BEFORE UPDATE ON calls FOR EACH ROW EXECUTE FUNCTION touch_updated_at();

CREATE INDEX calls_campaign ON calls (app_id, campaign_id, state) WHERE campaign_id IS NOT NULL;
COMMENT ON TABLE calls IS
    'The state of each call, and what is known of it. Rank: queued < initiated < ringing < answered < ended; no way back.';
COMMENT ON COLUMN calls.call_id IS 'the provider''s id of the call: CallSid, Vapi call id, Dialpad call_id';
COMMENT ON COLUMN calls.state IS 'timeout: no end was told in time; a provider''s end still replaces it';
COMMENT ON COLUMN calls.occurred_at IS 'when it got this state, by the provider''s clock; NULL where it sends no time';
COMMENT ON COLUMN calls.webhook_event_id IS 'webhook_events.id of the event that brought this state; kept when retention deletes that';
COMMENT ON COLUMN calls.ended_at IS 'by the provider''s clock; where it sends no time, when the event was received';
COMMENT ON COLUMN calls.ended_reason IS 'the provider''s word';
COMMENT ON COLUMN calls.duration_seconds IS 'what the provider calls the duration: Twilio CallDuration, Dialpad duration, Vapi endedAt - startedAt';
COMMENT ON COLUMN calls.talk_seconds IS 'of it, spent talking (Dialpad talk_time)';
COMMENT ON COLUMN calls.total_seconds IS 'with ringing and hold (Dialpad total_duration)';
COMMENT ON COLUMN calls.sip_code IS 'the SIP response that ended it: 200, 404, 486, 487, ...';
COMMENT ON COLUMN calls.answered_by IS 'answering machine detection: human, machine_start, machine_end_beep, fax, unknown, ...';
COMMENT ON COLUMN calls.carrier_call_id IS 'the id that the carrier below the provider gave it: of a Vapi call, Twilio''s CallSid';
COMMENT ON COLUMN calls.parent_call_id IS 'Twilio: the leg that dialled this one';
COMMENT ON COLUMN calls.master_call_id IS 'Dialpad: the leg that this one was split from';
COMMENT ON COLUMN calls.entry_point_call_id IS 'Dialpad: the leg that came in';
COMMENT ON COLUMN calls.last_status_at IS 'of the latest event with a state';

-- One row an event and call: what it said, and what came of it. Written once, never changed.
CREATE TABLE call_events (
    id               bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    app_id           text        NOT NULL,
    provider         text        NOT NULL,
    call_id          text        NOT NULL,
    webhook_event_id bigint      REFERENCES webhook_events ON DELETE SET NULL,
    replays          integer     NOT NULL,
    event_type       text        NOT NULL,
    provider_type    text        NOT NULL,
    state            text,
    from_state       text,
    change           text        NOT NULL CHECK (change IN ('noted', 'created', 'moved', 'repeated', 'late', 'impossible')),
    occurred_at      timestamptz,
    received_at      timestamptz NOT NULL,
    details          jsonb       NOT NULL DEFAULT '{}',
    recorded_at      timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (app_id, provider, call_id) REFERENCES calls,
    UNIQUE (webhook_event_id, replays)
);
CREATE INDEX call_events_call ON call_events (app_id, provider, call_id);
COMMENT ON TABLE call_events IS 'The log of calls: never changed; a line can be deleted once its event in webhook_events is.';
COMMENT ON COLUMN call_events.webhook_event_id IS 'NULL: retention has deleted the event';
COMMENT ON COLUMN call_events.replays IS 'of the event: a replay is logged anew, as it was understood then';
COMMENT ON COLUMN call_events.state IS 'that the event tells; NULL: none';
COMMENT ON COLUMN call_events.from_state IS 'that the call had; NULL: it was not known';
COMMENT ON COLUMN call_events.change IS
    'created, moved: the call has this state now; late, repeated, noted: it kept its own; impossible: lower, yet told to be later';
COMMENT ON COLUMN call_events.details IS 'what else the event said, normalised';

CREATE FUNCTION call_events_are_immutable() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    -- Retention: the event was deleted, and the foreign key says so here (at depth 2), or a line of such an event goes.
    IF TG_OP = 'UPDATE' AND NEW.webhook_event_id IS NULL AND pg_trigger_depth() > 1 THEN
        RETURN NEW;
    ELSIF TG_OP = 'DELETE' AND OLD.webhook_event_id IS NULL THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'call_events is a log: its rows are not changed'
        USING ERRCODE = 'restrict_violation',
              HINT = 'A wrong row is corrected by a replay, which is logged anew; of an event that retention has deleted it can be deleted.';
END $$;

CREATE TRIGGER call_events_are_immutable BEFORE UPDATE OR DELETE ON call_events
    FOR EACH ROW EXECUTE FUNCTION call_events_are_immutable();

ALTER TABLE messages
    ALTER COLUMN app_id SET DEFAULT 'default',
    ADD COLUMN direction       text CHECK (direction IN ('inbound', 'outbound')),
    ADD COLUMN from_number     text,
    ADD COLUMN to_numbers      text[],
    ADD COLUMN text            text,
    ADD COLUMN error_code      text,
    ADD COLUMN delivery_result text,
    ADD COLUMN sent_at         timestamptz,
    ADD COLUMN created_at      timestamptz NOT NULL DEFAULT now();
UPDATE messages SET created_at = least(occurred_at, updated_at);
CREATE TRIGGER messages_1_redundant BEFORE UPDATE ON messages
    FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
CREATE TRIGGER messages_2_touch BEFORE UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION touch_updated_at();
COMMENT ON TABLE messages IS
    'The state of each message, in and out. Rank: queued < sent < delivered, undelivered, failed, canceled, received < read.';
COMMENT ON COLUMN messages.to_numbers IS 'several in a group message';
COMMENT ON COLUMN messages.text IS 'NULL where the provider withholds it';
COMMENT ON COLUMN messages.error_code IS 'why it was not delivered: Twilio ErrorCode';
COMMENT ON COLUMN messages.delivery_result IS 'the same in Dialpad''s words: accepted, invalid_destination, rejected_spam, ...';
