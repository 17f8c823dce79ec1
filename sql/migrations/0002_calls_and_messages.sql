-- The latest state of each call and message, kept by handlers/calls.py and handlers/messages.py.

-- Rank of a state: events arrive out of order, and a later one of lower rank changes nothing.
CREATE FUNCTION call_rank(state text) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    CASE state WHEN 'scheduled' THEN 0 WHEN 'queued' THEN 1 WHEN 'initiated' THEN 2
               WHEN 'ringing' THEN 3 WHEN 'answered' THEN 4 ELSE 5 END;

CREATE TABLE calls (
    app_id            text        NOT NULL,
    provider          text        NOT NULL,
    call_id           text        NOT NULL CHECK (call_id <> ''),
    state             text        NOT NULL CHECK (state IN ('scheduled', 'queued', 'initiated', 'ringing',
                          'answered', 'completed', 'busy', 'no_answer', 'failed', 'canceled', 'missed')),
    occurred_at       timestamptz,
    webhook_event_id  bigint      NOT NULL,
    updated_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (app_id, provider, call_id)
);
COMMENT ON TABLE calls IS 'The furthest state of each call; rank: queued < initiated < ringing < answered < ended.';
COMMENT ON COLUMN calls.call_id IS 'the provider''s id of the call: CallSid, Vapi call id, Dialpad call_id, reminder id';
COMMENT ON COLUMN calls.webhook_event_id IS 'webhook_events.id of the event that brought this state';

CREATE FUNCTION message_rank(state text) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    CASE state WHEN 'queued' THEN 0 WHEN 'sent' THEN 1 WHEN 'read' THEN 3 ELSE 2 END;

CREATE TABLE messages (
    app_id            text        NOT NULL,
    provider          text        NOT NULL,
    message_id        text        NOT NULL CHECK (message_id <> ''),
    state             text        NOT NULL CHECK (state IN ('queued', 'sent', 'delivered', 'undelivered',
                          'failed', 'canceled', 'read', 'received')),
    occurred_at       timestamptz,
    webhook_event_id  bigint      NOT NULL,
    updated_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (app_id, provider, message_id)
);
COMMENT ON TABLE messages IS 'The furthest state of each message; rank: queued < sent < delivered or failed < read.';
COMMENT ON COLUMN messages.webhook_event_id IS 'webhook_events.id of the event that brought this state';
