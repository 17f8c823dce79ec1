-- Payment reminders, by call or SMS. handlers/reminders.py.

CREATE TABLE reminders (
    app_id           text        NOT NULL DEFAULT 'default' CHECK (app_id <> ''),
    reminder_id      text        NOT NULL CHECK (reminder_id <> ''),
    channel          text        NOT NULL DEFAULT 'call' CHECK (channel IN ('call', 'sms')),
    status           text        NOT NULL DEFAULT 'pending'
                                 CHECK (status IN ('pending', 'in_progress', 'processing', 'completed', 'failed')),
    external_id      text        CHECK (external_id <> ''),
    phone_number     text,
    outcome          jsonb,
    error_code       text,
    skip_reason      text,
    retried_by       bigint[]    NOT NULL DEFAULT '{}',
    retry_count      integer     NOT NULL GENERATED ALWAYS AS (cardinality(retried_by)) STORED,
    timed_out_by     bigint,
    next_retry_at    timestamptz CHECK (isfinite(next_retry_at)),
    last_event_at    timestamptz,
    webhook_event_id bigint,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (app_id, reminder_id)
);
CREATE UNIQUE INDEX reminders_external ON reminders (app_id, external_id);
CREATE INDEX reminders_due ON reminders (next_retry_at) WHERE next_retry_at IS NOT NULL;
CREATE TRIGGER reminders_1_redundant BEFORE UPDATE ON reminders
    FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
CREATE TRIGGER reminders_2_touch BEFORE UPDATE ON reminders FOR EACH ROW EXECUTE FUNCTION touch_updated_at();
COMMENT ON TABLE reminders IS 'Made by the backend, which also sets in_progress when it dispatches the call or SMS.';
COMMENT ON COLUMN reminders.status IS
    'pending (also: to be tried again) -> in_progress (dispatched) -> processing (answered) -> completed or failed';
COMMENT ON COLUMN reminders.external_id IS 'of an SMS, Twilio''s MessageSid';
COMMENT ON COLUMN reminders.outcome IS 'of the last call, as the voice agent told it';
COMMENT ON COLUMN reminders.skip_reason IS 'why it failed';
COMMENT ON COLUMN reminders.retried_by IS 'the events of calls that reached nobody, and timeouts, each once: too many, and it is failed';
COMMENT ON COLUMN reminders.timed_out_by IS 'the reminder.timeout that made it failed; NULL: something has been heard since';
COMMENT ON COLUMN reminders.next_retry_at IS 'when to call again; NULL: not to be called again';
COMMENT ON COLUMN reminders.last_event_at IS 'of the last event that counted, by the agent''s clock; NULL: it sent no time';
COMMENT ON COLUMN reminders.webhook_event_id IS 'the agent''s last event that counted';

-- A call that is in progress is expected to tell something within 10 minutes, whoever says that it is, and whatever
-- rights they have.
CREATE FUNCTION reminder_expects() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    -- An event of an earlier call was counted: nothing was heard of this one.
    IF TG_OP = 'UPDATE' AND NEW.retried_by <> OLD.retried_by AND NEW.status = OLD.status
       AND NEW.webhook_event_id IS NOT DISTINCT FROM OLD.webhook_event_id THEN
        RETURN NULL;
    END IF;
    IF NEW.channel = 'call' AND NEW.status IN ('in_progress', 'processing') THEN
        PERFORM webhook_expect(NEW.app_id, 'reminder/' || NEW.reminder_id, 'reminder.timeout', interval '10 minutes');
    ELSE
        PERFORM webhook_fulfil(NEW.app_id, 'reminder/' || NEW.reminder_id, 'reminder.timeout');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER reminder_expects AFTER INSERT OR UPDATE OF status ON reminders
    FOR EACH ROW EXECUTE FUNCTION reminder_expects();

-- The callback may come before the MessageSid is written here: look again, after the message's events so far.
CREATE FUNCTION reminder_sent() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM webhook_emit(NEW.app_id, 'reminder.sent', 'message/' || NEW.external_id,
                         NEW.reminder_id || ':' || NEW.external_id || ':' || pg_current_xact_id()::text,
                         jsonb_build_object('reminder_id', NEW.reminder_id, 'external_id', NEW.external_id));
    RETURN NULL;
END $$;
CREATE TRIGGER reminder_sent AFTER INSERT OR UPDATE OF external_id ON reminders FOR EACH ROW
    WHEN (NEW.external_id IS NOT NULL AND NEW.channel = 'sms')
    EXECUTE FUNCTION reminder_sent();
