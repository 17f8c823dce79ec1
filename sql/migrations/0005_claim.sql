-- The claim: which due events a worker gets.

-- Claim events for the calling transaction: at most *batch*, each subject's in the order of their ids, no subject
-- that another transaction has. A suspect comes alone. Returns their ids in the order they are to be run; NULL where
-- there was only parking to do, and there may be more behind it.
--
-- Three things make the order hold over any number of workers: the lock on a subject is taken before its events
-- are looked at, they are looked at by a later statement, which sees what the lock's last holder committed, and a
-- subject's events are taken only up to the first that isn't due, is in hand or can't be locked. A subject whose
-- first event waits has its others parked behind it, so that nobody meets them again before that is due.
CREATE FUNCTION webhook_claim(run bigint, batch integer, only_sources text[], only_types text[])
RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    in_hand  bigint[];
    free     bigint[] := '{}';
    mine     text[] := '{}';
    busy     text[] := '{}';
    chosen   bigint[];
    found    record;
    seen     integer := 0;
    span     integer := batch * 10;
    behind   integer;
BEGIN
    PERFORM pg_advisory_xact_lock(1751673961, run::integer);
    SELECT coalesce(array_agg(id), '{}') INTO in_hand FROM webhook_runs, unnest(event_ids) AS id;

    LOOP
        seen := 0;
        FOR found IN
            SELECT event.id, event.subject, event.suspect
              FROM webhook_events AS event
             WHERE processed_at IS NULL AND dead_at IS NULL AND next_attempt_at <= now()
               AND id <> ALL (in_hand)
               AND (only_sources IS NULL OR source = ANY (only_sources))
               AND (only_types IS NULL OR event_type = ANY (only_types))
             ORDER BY next_attempt_at, id
             LIMIT span
        LOOP
            seen := seen + 1;
            CONTINUE WHEN found.subject = ANY (mine) OR found.subject = ANY (busy)
                       OR (found.suspect AND cardinality(free) + cardinality(mine) > 0);
            IF found.subject IS NULL THEN
                free := free || found.id;
            ELSIF pg_try_advisory_xact_lock(hashtextextended(found.subject, 1751673961)) THEN
                mine := mine || found.subject;
            ELSE
                busy := busy || found.subject;
                CONTINUE;
            END IF;
            EXIT WHEN found.suspect OR cardinality(free) + cardinality(mine) >= batch;
        END LOOP;
        -- Nothing but subjects that others have: look further, since behind them may be one that is free.
        EXIT WHEN cardinality(free) + cardinality(mine) > 0 OR seen < span OR span >= 10000;
        span := least(span * 4, 10000);
    END LOOP;

    WITH head AS MATERIALIZED (
        SELECT subject.name, first.id, first.next_attempt_at
          FROM unnest(mine) AS subject (name)
         CROSS JOIN LATERAL (
            SELECT id, next_attempt_at FROM webhook_events
             WHERE subject = subject.name AND processed_at IS NULL AND dead_at IS NULL
             ORDER BY id LIMIT 1) AS first
         WHERE first.next_attempt_at > clock_timestamp()
    ), parked AS MATERIALIZED (
        SELECT follower.id, head.next_attempt_at
          FROM head
         CROSS JOIN LATERAL (
            SELECT id FROM webhook_events
             WHERE subject = head.name AND processed_at IS NULL AND dead_at IS NULL
               AND id > head.id AND next_attempt_at < head.next_attempt_at
             ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED) AS follower
    )
    UPDATE webhook_events AS event SET next_attempt_at = parked.next_attempt_at
      FROM parked WHERE event.id = parked.id;
    GET DIAGNOSTICS behind = ROW_COUNT;

    WITH ordered AS MATERIALIZED (
        SELECT next.id, next.suspect, next.place,
               bool_and(next.ready) OVER (PARTITION BY subject.name ORDER BY next.id) AS ready
          FROM unnest(mine) AS subject (name)
         CROSS JOIN LATERAL (
            SELECT id, suspect, row_number() OVER (ORDER BY id) AS place,
                   next_attempt_at <= clock_timestamp() AND id <> ALL (in_hand)
                   AND (only_sources IS NULL OR source = ANY (only_sources))
                   AND (only_types IS NULL OR event_type = ANY (only_types)) AS ready
              FROM webhook_events
             WHERE subject = subject.name AND processed_at IS NULL AND dead_at IS NULL
             ORDER BY id LIMIT 20) AS next
        UNION ALL
        SELECT id, suspect, 1, true FROM webhook_events WHERE id = ANY (free)
    ), candidate AS MATERIALIZED (
        -- One that is suspect, at its place, ends what may come with it: it is run alone or not now.
        SELECT id, suspect, row_number() OVER (ORDER BY place, id) AS turn FROM ordered WHERE ready
    ), picked AS MATERIALIZED (
        SELECT id FROM candidate
         WHERE turn <= batch
           AND turn < coalesce((SELECT min(turn) FROM candidate WHERE suspect AND turn > 1), batch + 1)
           AND (turn = 1 OR NOT EXISTS (SELECT FROM candidate WHERE suspect AND turn = 1))
    ), locked AS MATERIALIZED (
        SELECT event.id FROM webhook_events AS event
         WHERE event.id IN (SELECT id FROM picked) AND processed_at IS NULL AND dead_at IS NULL
         ORDER BY event.id FOR UPDATE SKIP LOCKED
    ), kept AS (
        SELECT picked.id, bool_and(locked.id IS NOT NULL)
                   OVER (PARTITION BY coalesce(event.subject, picked.id::text) ORDER BY picked.id) AS whole
          FROM picked JOIN webhook_events AS event ON event.id = picked.id
          LEFT JOIN locked ON locked.id = picked.id
    )
    SELECT coalesce(array_agg(id ORDER BY id), '{}') INTO chosen FROM kept WHERE whole;
    IF chosen = '{}' AND behind > 0 THEN
        RETURN NULL;
    END IF;
    RETURN chosen;
END $$;
