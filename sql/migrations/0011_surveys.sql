-- Survey campaigns: contacts, the attempts to reach them, and the dialogues of those who answered. handlers/surveys.py.

CREATE TABLE contacts (
    app_id       text        NOT NULL DEFAULT 'default',
    contact_id   text        NOT NULL CHECK (contact_id <> ''),
    campaign_id  text        NOT NULL,
    phone_number text,
    state        text        NOT NULL DEFAULT 'PENDING' CHECK (state IN ('PENDING', 'NOT_REACHED', 'COMPLETED', 'REFUSED')),
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (app_id, contact_id),
    FOREIGN KEY (app_id, campaign_id) REFERENCES campaigns
);
CREATE INDEX contacts_campaign ON contacts (app_id, campaign_id, state);
CREATE TRIGGER contacts_1_redundant BEFORE UPDATE ON contacts
    FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
CREATE TRIGGER contacts_2_touch BEFORE UPDATE ON contacts FOR EACH ROW EXECUTE FUNCTION touch_updated_at();
COMMENT ON TABLE contacts IS 'Who is to be asked; made by the application, or by the first callback that names one.';
COMMENT ON COLUMN contacts.state IS
    'PENDING, NOT_REACHED (a call ended without an answer): by telephony; COMPLETED, REFUSED: by the orchestrator, and kept';

CREATE TABLE call_attempts (
    app_id           text        NOT NULL DEFAULT 'default',
    call_id          text        NOT NULL CHECK (call_id <> ''),
    provider         text        NOT NULL DEFAULT 'twilio',
    provider_call_id text        NOT NULL,
    campaign_id      text        NOT NULL,
    contact_id       text,
    outcome          text        CHECK (outcome IN ('NO_ANSWER', 'BUSY', 'FAILED', 'COMPLETED', 'REFUSED')),
    answered_by      text,
    duration_seconds numeric,
    recording_url    text,
    error_code       text,
    processed_types  text[]      NOT NULL DEFAULT '{}',
    created_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (app_id, call_id),
    UNIQUE (app_id, provider, provider_call_id),
    FOREIGN KEY (app_id, provider, provider_call_id) REFERENCES calls,
    FOREIGN KEY (app_id, campaign_id) REFERENCES campaigns,
    FOREIGN KEY (app_id, contact_id) REFERENCES contacts
);
CREATE INDEX call_attempts_contact ON call_attempts (app_id, contact_id);
CREATE TRIGGER call_attempts_1_redundant BEFORE UPDATE ON call_attempts
    FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
COMMENT ON TABLE call_attempts IS 'One call to one contact, under the application''s own id of it.';
COMMENT ON COLUMN call_attempts.call_id IS 'the application''s: call_id in the callback''s URL; the provider''s where there is none';
COMMENT ON COLUMN call_attempts.outcome IS
    'NO_ANSWER, BUSY, FAILED: by telephony; COMPLETED, REFUSED: by the orchestrator, and kept; NULL: not known yet';
COMMENT ON COLUMN call_attempts.processed_types IS 'the event types that were handled for it';

CREATE TABLE dialogues (
    app_id           text        NOT NULL,
    provider         text        NOT NULL,
    call_id          text        NOT NULL,
    campaign_id      text        NOT NULL,
    contact_id       text,
    started_at       timestamptz NOT NULL,
    announced_at     timestamptz,
    webhook_event_id bigint      NOT NULL,
    PRIMARY KEY (app_id, provider, call_id),
    FOREIGN KEY (app_id, provider, call_id) REFERENCES calls,
    FOREIGN KEY (app_id, campaign_id) REFERENCES campaigns,
    FOREIGN KEY (app_id, contact_id) REFERENCES contacts
);
COMMENT ON TABLE dialogues IS 'One a call that was answered; committed with the event that said so.';
COMMENT ON COLUMN dialogues.call_id IS 'the provider''s, as in calls';
COMMENT ON COLUMN dialogues.announced_at IS 'when the orchestrator (DIALOGUE_URL) said 2xx to it; NULL: not told, or none is set';
