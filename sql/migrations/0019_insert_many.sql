-- Events are stored several at a time.

-- As webhook_is_new, which is for one: asked of all keys that a statement has inserted, once. VOLATILE: the query has a
-- snapshot of its own, later than the statement's, so it sees the tombstone of an event that a prune deleted while the
-- insert waited for it. Planned once a session, and always along the index, however many tombstones there are by then.
CREATE FUNCTION webhook_are_new(sources text[], event_ids text[]) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
BEGIN
    IF EXISTS (SELECT FROM unnest(sources, event_ids) AS key (source, event_id)
                 JOIN webhook_tombstones AS gone ON gone.source = key.source AND gone.event_id = key.event_id) THEN
        RAISE serialization_failure USING MESSAGE = 'an event was deleted while it was delivered again';
    END IF;
    RETURN true;
END $$;
