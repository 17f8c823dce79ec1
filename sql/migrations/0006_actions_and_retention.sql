-- What operators did, and what a replay does without a body.

-- A row a command that changed events or what is claimed. UPDATEs typed into psql leave none.
CREATE TABLE webhook_actions (
    id         bigint         GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    verb       text           NOT NULL CHECK (verb IN ('replay', 'skip', 'purge', 'prune', 'pause', 'resume')),
    who        text           NOT NULL,
    reason     text           NOT NULL DEFAULT '',
    chosen     jsonb          NOT NULL DEFAULT '{}',
    event_ids  int8multirange NOT NULL DEFAULT '{}',
    events     integer        NOT NULL DEFAULT 0 CHECK (events >= 0),
    done       integer        NOT NULL DEFAULT 0 CHECK (done >= 0),
    started_at timestamptz    NOT NULL DEFAULT clock_timestamp(),
    ended_at   timestamptz
);
COMMENT ON TABLE webhook_actions IS 'What was done by the commands, by whom and why.';
COMMENT ON COLUMN webhook_actions.who IS 'user@host';
COMMENT ON COLUMN webhook_actions.chosen IS 'the filter, or what was paused or asked for';
COMMENT ON COLUMN webhook_actions.event_ids IS 'the events it was to change, also where a purge deleted them; of a prune none';
COMMENT ON COLUMN webhook_actions.done IS 'events changed so far, of those it was to change';
COMMENT ON COLUMN webhook_actions.ended_at IS 'NULL: under way, or it was killed';

COMMENT ON COLUMN webhook_events.body_removed_at IS
    'set: retention removed headers, body, payload and the URL''s query; event_id still makes repeats duplicates';

-- Without its body an event can't be handled again. A replay of many events must not fail for this one, and its
-- handlers must not take an empty payload for the provider's: it is a dead letter, which says so.
-- By its name it fires after webhook_events_replay, which has made the event due.
CREATE FUNCTION webhook_events_replay_without_body() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    NEW.outcome := NULL;
    NEW.dead_at := clock_timestamp();
    NEW.last_error := 'BodyRemoved: retention removed its body on ' || to_char(OLD.body_removed_at, 'YYYY-MM-DD')
                      || ', so it can''t be handled again';
    RETURN NEW;
END $$;

CREATE TRIGGER webhook_events_replay_without_body BEFORE UPDATE OF processed_at ON webhook_events FOR EACH ROW
    WHEN (NEW.processed_at IS NULL AND OLD.body_removed_at IS NOT NULL)
    EXECUTE FUNCTION webhook_events_replay_without_body();
