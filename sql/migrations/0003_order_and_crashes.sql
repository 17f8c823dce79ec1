-- Order within a subject, and an account of crashes.

ALTER TABLE webhook_events
    ADD COLUMN crashes smallint NOT NULL DEFAULT 0 CHECK (crashes >= 0),
    ADD COLUMN suspect boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN webhook_events.crashes IS 'how often it ended its worker while it ran alone; a third time makes it a dead letter';
COMMENT ON COLUMN webhook_events.suspect IS 'it was in a batch whose worker died: it is run alone until it succeeds';

-- A subject's pending events in their order. Like webhook_events_due it holds the backlog only.
CREATE INDEX webhook_events_subject ON webhook_events (subject, id)
    WHERE processed_at IS NULL AND dead_at IS NULL AND subject IS NOT NULL;

-- What each worker is about to run, committed before it runs it. Unlogged: a crash of the server empties it,
-- and is right to, since no event was to blame.
CREATE UNLOGGED TABLE webhook_runs (
    run_id     bigint      PRIMARY KEY CHECK (run_id BETWEEN 1 AND 2147483647),
    worker     text        NOT NULL,
    event_ids  bigint[]    NOT NULL CHECK (cardinality(event_ids) > 0),
    started_at timestamptz NOT NULL DEFAULT now(),
    booted_at  timestamptz NOT NULL DEFAULT pg_postmaster_start_time()
);
CREATE SEQUENCE webhook_run_ids AS integer CYCLE;
COMMENT ON TABLE webhook_runs IS 'Batches in hand. A row whose advisory lock is free is of a worker that died.';
COMMENT ON COLUMN webhook_runs.booted_at IS 'when the server was started: a run from before its restart says nothing of its events';

CREATE OR REPLACE FUNCTION webhook_events_replay() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    NEW.outcome := NULL;
    NEW.dead_at := NULL;
    NEW.last_error := NULL;
    NEW.attempts := 0;
    NEW.crashes := 0;
    NEW.suspect := false;
    NEW.next_attempt_at := clock_timestamp();
    NEW.replays := OLD.replays + 1;
    RETURN NEW;
END $$;
