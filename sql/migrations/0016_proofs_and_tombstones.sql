-- Which secret proved an event; and the keys of deleted events, so that a captured request is never an event again.

ALTER TABLE webhook_events ADD COLUMN verified_by text;
COMMENT ON COLUMN webhook_events.verified_by IS
    'name of the secret that proved it, or who released it from quarantine; NULL: insecure = true, our own, or before 0.2';

-- No foreign key and no other index: a row is looked up by its key with every delivery, and written once.
CREATE TABLE webhook_tombstones (
    source     text        NOT NULL,
    event_id   text        NOT NULL,
    deleted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (source, event_id)
);
CREATE INDEX webhook_tombstones_deleted ON webhook_tombstones USING brin (deleted_at);
COMMENT ON TABLE webhook_tombstones IS
    'Keys of events that retention or a purge deleted: one delivered again is a duplicate. DELETE a row to let it in.';

ALTER TABLE webhook_duplicates ALTER COLUMN same_body DROP NOT NULL;
COMMENT ON COLUMN webhook_duplicates.same_body IS
    'false: same event_id, other bytes; the first delivery''s body was kept. NULL: the event had been deleted';

-- Asked before an event is inserted, and again when it is. A prune may delete the event and commit while the insert
-- waits for it, and then the insert's snapshot shows neither row nor tombstone. VOLATILE: each query in here has a
-- snapshot of its own, so the second one, after the wait, sees the tombstone. Its plan is kept with the session: two
-- calls cost less than one subquery that is planned with each insert.
CREATE FUNCTION webhook_is_new(source text, event_id text, inserted boolean) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM webhook_tombstones AS gone
                    WHERE gone.source = webhook_is_new.source AND gone.event_id = webhook_is_new.event_id) THEN
        RETURN true;
    END IF;
    IF inserted THEN
        RAISE serialization_failure USING MESSAGE = 'the event was deleted while it was delivered again';
    END IF;
    RETURN false;
END $$;
