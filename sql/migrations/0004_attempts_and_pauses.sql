-- Failed attempts, what a success took, pauses, breakers, leases, and bodies removed by retention.

ALTER TABLE webhook_events
    ADD COLUMN seconds real CHECK (seconds >= 0),
    ADD COLUMN handler_version text,
    ADD COLUMN parked boolean NOT NULL DEFAULT false,
    ADD COLUMN yields_at timestamptz,
    ADD COLUMN lease bigint,
    ADD COLUMN body_removed_at timestamptz;
COMMENT ON COLUMN webhook_events.seconds IS 'what its handlers took when they succeeded';
COMMENT ON COLUMN webhook_events.handler_version IS 'the version of the handlers that succeeded';
COMMENT ON COLUMN webhook_events.parked IS 'it waits, until next_attempt_at at the latest, for an earlier event of its subject';
COMMENT ON COLUMN webhook_events.yields_at IS 'it failed and its handler has skip_after: from then on it holds back nobody';
COMMENT ON COLUMN webhook_events.lease IS 'the number of the worker that handles it outside a transaction, until next_attempt_at';
COMMENT ON COLUMN webhook_events.body_removed_at IS 'set: retention removed headers, body and payload; event_id still makes repeats duplicates';

-- A row an attempt that failed; it goes with its event.
CREATE TABLE webhook_attempts (
    id              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id        bigint      NOT NULL REFERENCES webhook_events ON DELETE CASCADE,
    replays         integer     NOT NULL,
    attempt         integer     NOT NULL,
    result          text        NOT NULL CHECK (result IN ('retry', 'dead')),
    failed_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    worker          text        NOT NULL,
    seconds         real,
    handler         text,
    handler_version text,
    error_class     text        NOT NULL,
    error           text        NOT NULL
);
CREATE INDEX webhook_attempts_event ON webhook_attempts (event_id, id);
COMMENT ON TABLE webhook_attempts IS 'Attempts that failed. A success leaves seconds and handler_version on its event.';
COMMENT ON COLUMN webhook_attempts.replays IS 'the event''s replays at the time: attempts count from 1 again after each';
COMMENT ON COLUMN webhook_attempts.worker IS 'host:pid';
COMMENT ON COLUMN webhook_attempts.seconds IS 'what the handlers took; NULL where their worker died';
COMMENT ON COLUMN webhook_attempts.error IS 'without values of the payload, as last_error';

-- What no worker claims for now. The receiver goes on storing it.
CREATE TABLE webhook_pauses (
    kind      text        NOT NULL CHECK (kind IN ('source', 'type')),
    name      text        NOT NULL CHECK (name <> ''),
    until     timestamptz,
    reason    text        NOT NULL DEFAULT '',
    paused_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, name)
);
COMMENT ON COLUMN webhook_pauses.until IS 'NULL: until it is resumed by hand';

-- Outside handlers that keep failing: their events wait for a probe a minute, and spend no attempt.
CREATE TABLE webhook_breakers (
    handler    text        PRIMARY KEY,
    failures   integer     NOT NULL CHECK (failures > 0),
    opened_at  timestamptz NOT NULL DEFAULT now(),
    probe_at   timestamptz NOT NULL,
    last_error text        NOT NULL
);
COMMENT ON COLUMN webhook_breakers.failures IS 'in a row; a success removes the row';
COMMENT ON COLUMN webhook_breakers.probe_at IS 'when the next event may be tried';

CREATE INDEX webhook_events_leased ON webhook_events (lease) WHERE lease IS NOT NULL;
