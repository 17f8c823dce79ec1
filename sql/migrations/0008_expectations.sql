-- What has not happened: events that are expected, and overdue when they don't come.

CREATE TABLE webhook_expectations (
    app_id     text        NOT NULL CHECK (app_id <> ''),
    subject    text        NOT NULL CHECK (subject <> ''),
    event_type text        NOT NULL CHECK (event_type <> ''),
    number     bigint      GENERATED ALWAYS AS IDENTITY,
    armed_at   timestamptz NOT NULL,
    due_at     timestamptz NOT NULL,
    payload    jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(payload) = 'object'),
    PRIMARY KEY (app_id, subject, event_type),
    -- What could not be stored as an event is refused here, where only its own handler fails.
    CONSTRAINT webhook_expectations_within_sensible CHECK (due_at BETWEEN armed_at AND '2200-01-01 UTC'),
    CONSTRAINT webhook_expectations_names_short CHECK (length(event_type) + length(app_id) <= 200)
);
CREATE INDEX webhook_expectations_due ON webhook_expectations (due_at);

COMMENT ON TABLE webhook_expectations IS 'Another event of the subject is to come by due_at; else one of event_type is put into the inbox.';
COMMENT ON COLUMN webhook_expectations.event_type IS 'of the event that says that none came: reminder.timeout, ...';
COMMENT ON COLUMN webhook_expectations.number IS 'of this arming: the overdue event''s id has it, so it is stored once';
COMMENT ON COLUMN webhook_expectations.payload IS 'the overdue event''s, which adds expected_within_seconds and armed_at';

-- For handlers, triggers and plain SQL alike. Their bodies are bound to the table when they are created: they
-- do the same under any search_path.

-- Expect another event of this subject within so long from now, else one of this type is put into the inbox.
-- Expected already: it is from now on that it counts.
CREATE FUNCTION webhook_expect(app_id text, subject text, event_type text, within interval, payload jsonb DEFAULT '{}')
RETURNS void LANGUAGE sql BEGIN ATOMIC
    INSERT INTO webhook_expectations AS expected (app_id, subject, event_type, armed_at, due_at, payload)
    SELECT webhook_expect.app_id, webhook_expect.subject, webhook_expect.event_type,
           clock.now, clock.now + webhook_expect.within, webhook_expect.payload
      FROM (SELECT clock_timestamp() AS now) AS clock
    ON CONFLICT ON CONSTRAINT webhook_expectations_pkey DO UPDATE
       SET number = DEFAULT, armed_at = excluded.armed_at, due_at = excluded.due_at, payload = excluded.payload;
END;

-- It came, or is no longer expected.
CREATE FUNCTION webhook_fulfil(app_id text, subject text, event_type text)
RETURNS void LANGUAGE sql BEGIN ATOMIC
    DELETE FROM webhook_expectations AS expected
     WHERE expected.app_id = webhook_fulfil.app_id AND expected.subject = webhook_fulfil.subject
       AND expected.event_type = webhook_fulfil.event_type;
END;

-- Put an event of our own into the inbox, unless its key is there already, and wake who waits for events; return its
-- id, NULL where it is there. Of one app_id and event type a key is stored once.
--
-- The NOTIFY is within the transaction, unlike the receiver's: what we emit is rare, and only its commit knows when it
-- is there.
CREATE FUNCTION webhook_emit(
    app_id text, event_type text, subject text, key text, payload jsonb DEFAULT '{}', occurred_at timestamptz DEFAULT NULL)
RETURNS bigint LANGUAGE sql BEGIN ATOMIC
    WITH stored AS (
        INSERT INTO webhook_events (
            app_id, source, provider, event_id, event_type, subject, body, body_sha256, payload, occurred_at
        )
        SELECT webhook_emit.app_id, 'inbox', 'inbox',
               CASE WHEN length(named.whole) <= 255 THEN named.whole
                    ELSE left(named.whole, 190) || ':' || encode(sha256(convert_to(named.whole, 'UTF8')), 'hex') END,
               webhook_emit.event_type, webhook_emit.subject, named.body, sha256(named.body), webhook_emit.payload,
               webhook_emit.occurred_at
          FROM (SELECT webhook_emit.event_type || ':'
                       -- Escaped, so that no two tenants' keys are one.
                       || replace(replace(webhook_emit.app_id, '%', '%25'), ':', '%3A') || ':' || webhook_emit.key AS whole,
                       convert_to(webhook_emit.payload::text, 'UTF8') AS body) AS named
        ON CONFLICT ON CONSTRAINT webhook_events_key DO NOTHING
        RETURNING id
    ), told AS (
        SELECT pg_notify('webhook_events', '') FROM stored
    )
    SELECT id FROM stored LEFT JOIN told ON true;
END;
