-- The claim takes the oldest events with those of their subjects, where it took the first of as many subjects as a
-- batch holds; it reads, locks and joins less for it. And a completed event has room on its page.

-- A completion rewrites the row. On its page that is a few bytes of WAL, on another the whole row: for a body of 800
-- bytes 430 against 1,660, and the pages left behind were no fewer. Holds for new pages; blocks nobody.
ALTER TABLE webhook_events SET (fillfactor = 50);

-- Claim events for the calling transaction: at most *batch*, of a subject *prefix* in the order of their ids, no subject
-- that another transaction has, nothing that is paused or shut (its type, and where they aren't NULL its provider and
-- its source, are at one place of the three lists). A suspect comes alone.
--
-- ids: in the order they are to be run. after_at, after_id: how far the claim has looked; the next may begin there,
-- past what is done and can't be vacuumed yet, but must begin at '-infinity' now and then, since what was committed
-- late lies behind. more: nothing was found so far, and it wasn't looked to the end. blocked: nothing was found but
-- events whose turn it isn't.
--
-- Three things make the order hold over any number of workers: the lock on a subject is taken before its events
-- are looked at, they are looked at by a later statement, which sees what the lock's last holder committed, and a
-- subject's events are taken only up to the first that isn't due, is in hand or can't be locked. A subject whose
-- first event waits has its others parked behind it, so that nobody meets them again before that is due.
CREATE OR REPLACE FUNCTION webhook_claim(
    batch integer, only_sources text[], only_types text[],
    shut_types text[], shut_providers text[], shut_sources text[], prefix integer,
    INOUT after_at timestamptz, INOUT after_id bigint, OUT run_id bigint, OUT ids bigint[], OUT more boolean, OUT blocked boolean)
LANGUAGE plpgsql
-- Planned once a session, and always along the indexes: what there is to read is small, whatever the tables' sizes.
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
DECLARE
    in_hand        bigint[];
    paused_sources text[];
    paused_types   text[];
    paused_until   timestamptz;
    due            record;
    passed         record;
    slot           integer;
    shares         integer[];    -- of each of mine, events that were seen, as far as the prefix
    ours           integer;
    looked_at      timestamptz;
    waiting_at     timestamptz;  -- the first suspect that was passed by, since others came first
    waiting_id     bigint;
    free           bigint[];
    mine           text[];
    candidates     bigint[];
    suspects       boolean[];
    waits          boolean;      -- something does, among or before what is due
    busy           text[] := '{}';
    seen           integer;
    seen_ids       bigint[] := '{}';
    seen_at        timestamptz[] := '{}';
    locks          integer := 0;
    ended          boolean;
    parking        integer;
    begun_at       timestamptz := after_at;
    begun_id       bigint := after_id;
BEGIN
    ids := '{}';
    run_id := nextval('webhook_run_ids');
    PERFORM pg_advisory_xact_lock(1751673961, run_id::integer);
    INSERT INTO webhook_guards VALUES (run_id);
    SELECT coalesce(array_agg(event_id), '{}') INTO in_hand FROM webhook_runs, unnest(event_ids) AS event_id;
    SELECT coalesce(array_agg(name) FILTER (WHERE kind = 'source'), '{}'),
           coalesce(array_agg(name) FILTER (WHERE kind = 'type'), '{}'),
           min(until)
      INTO paused_sources, paused_types, paused_until
      FROM webhook_pauses WHERE until IS NULL OR until > now();

    LOOP
        free := '{}';
        mine := '{}';
        shares := '{}';
        ours := 0;
        waiting_at := NULL;
        waiting_id := NULL;
        seen := 0;
        ended := false;
        FOR due IN
            SELECT event.id, event.next_attempt_at, event.subject, event.suspect
              FROM webhook_events AS event
             WHERE processed_at IS NULL AND dead_at IS NULL AND next_attempt_at <= now()
               AND (next_attempt_at, id) > (after_at, after_id)
               AND id <> ALL (in_hand)
               AND source <> ALL (paused_sources) AND event_type <> ALL (paused_types)
               AND (only_sources IS NULL OR source = ANY (only_sources))
               AND (only_types IS NULL OR event_type = ANY (only_types))
               AND (shut_types IS NULL OR NOT EXISTS (
                        SELECT FROM unnest(shut_types, shut_providers, shut_sources) AS shut (type, provider, source)
                         WHERE event.event_type = shut.type AND event.provider = coalesce(shut.provider, event.provider)
                           AND event.source = coalesce(shut.source, event.source)))
             ORDER BY next_attempt_at, id
             LIMIT batch * 10
        LOOP
            seen := seen + 1;
            seen_ids := seen_ids || due.id;
            seen_at := seen_at || due.next_attempt_at;
            IF due.suspect AND ours > 0 THEN
                IF waiting_id IS NULL THEN
                    waiting_at := due.next_attempt_at;
                    waiting_id := due.id;
                END IF;
                CONTINUE;
            END IF;
            slot := array_position(mine, due.subject);
            IF due.subject IS NULL THEN
                free := free || due.id;
            ELSIF slot IS NOT NULL THEN
                CONTINUE WHEN shares[slot] = prefix;
                shares[slot] := shares[slot] + 1;
            ELSIF due.subject = ANY (busy) THEN
                CONTINUE;
            ELSIF pg_try_advisory_xact_lock(hashtextextended(due.subject, 1751673961)) THEN
                mine := mine || due.subject;
                shares := shares || 1;
                locks := locks + 1;
            ELSE
                busy := busy || due.subject;
                CONTINUE;
            END IF;
            ours := ours + 1;
            ended := due.suspect OR ours >= batch;
            EXIT WHEN ended;
        END LOOP;
        ended := NOT ended AND seen < batch * 10;  -- that was all there is
        IF seen > 0 THEN
            after_at := due.next_attempt_at;
            after_id := due.id;
        END IF;

        -- The subjects are locked: what their last holders committed is seen from here on.
        looked_at := clock_timestamp();
        WITH ordered AS (
            SELECT next.id, next.suspect, next.ready, next.yields,
                   row_number() OVER so_far AS place, bool_and(next.ready OR next.yields) OVER so_far AS unblocked
              FROM unnest(mine) AS subject (name)
             CROSS JOIN LATERAL (
                SELECT id, suspect, yields, ready
                  FROM (SELECT id, suspect,
                               lease IS NULL AND coalesce(yields_at <= looked_at, false) AS yields,
                               next_attempt_at <= looked_at AND id <> ALL (in_hand)
                               AND source <> ALL (paused_sources) AND event_type <> ALL (paused_types)
                               AND (only_sources IS NULL OR source = ANY (only_sources))
                               AND (only_types IS NULL OR event_type = ANY (only_types))
                               AND (shut_types IS NULL OR NOT EXISTS (
                                   SELECT FROM unnest(shut_types, shut_providers, shut_sources)
                                               AS shut (type, provider, source)
                                    WHERE event.event_type = shut.type
                                      AND event.provider = coalesce(shut.provider, event.provider)
                                      AND event.source = coalesce(shut.source, event.source))) AS ready
                          FROM webhook_events AS event
                         WHERE event.subject = subject.name AND processed_at IS NULL AND dead_at IS NULL) AS pending
                 WHERE ready OR NOT yields
                 ORDER BY id LIMIT prefix) AS next
            WINDOW so_far AS (PARTITION BY subject.name ORDER BY next.id)
            UNION ALL
            SELECT id, suspect, true, false, 1, true FROM webhook_events WHERE id = ANY (free)
        )
        SELECT array_agg(id ORDER BY place, id) FILTER (WHERE ready AND unblocked),
               array_agg(suspect ORDER BY place, id) FILTER (WHERE ready AND unblocked),
               coalesce(bool_or(NOT ready AND NOT yields), false)
          INTO candidates, suspects, waits FROM ordered;

        parking := 0;
        IF waits THEN  -- it may be the first of its subject
            WITH first AS MATERIALIZED (
                SELECT subject.name, first.id, first.next_attempt_at,
                       least(CASE WHEN first.paused THEN paused_until ELSE first.next_attempt_at END,
                             first.yields_at, now() + interval '5 minutes') AS until
                  FROM unnest(mine) AS subject (name)
                 CROSS JOIN LATERAL (
                    SELECT id, next_attempt_at, yields_at,
                           source = ANY (paused_sources) OR event_type = ANY (paused_types) AS paused
                      FROM webhook_events
                     WHERE subject = subject.name AND processed_at IS NULL AND dead_at IS NULL
                       AND (yields_at IS NULL OR yields_at > clock_timestamp() OR lease IS NOT NULL)
                     ORDER BY id LIMIT 1) AS first
                 WHERE first.next_attempt_at > clock_timestamp() OR first.paused
            ), head AS MATERIALIZED (
                -- Locked, so that who frees it waits, and then sees what was parked behind it.
                SELECT first.name, first.id, first.until
                  FROM first JOIN webhook_events AS event
                    ON event.id = first.id AND event.next_attempt_at = first.next_attempt_at
                 WHERE event.processed_at IS NULL AND event.dead_at IS NULL
                 ORDER BY event.id FOR UPDATE OF event SKIP LOCKED
            ), follower AS MATERIALIZED (
                SELECT next.id, head.until
                  FROM head
                 CROSS JOIN LATERAL (
                    SELECT id FROM webhook_events
                     WHERE subject = head.name AND id > head.id
                       AND processed_at IS NULL AND dead_at IS NULL
                       AND next_attempt_at <= now() AND (yields_at IS NULL OR yields_at > clock_timestamp())
                     ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED) AS next
            )
            UPDATE webhook_events AS event SET next_attempt_at = follower.until, parked = true
              FROM follower WHERE event.id = follower.id;
            GET DIAGNOSTICS parking = ROW_COUNT;
            -- Committed before anything runs: nobody waits long for a head that was locked. Then all is looked at again.
            IF parking > 0 THEN
                after_at := begun_at;
                after_id := begun_id;
                EXIT;
            END IF;
        END IF;

        -- One that is suspect, at its place, ends what may come with it: it is run alone or not now.
        slot := coalesce(array_position(suspects, true), batch + 1);
        candidates := candidates[1:CASE slot WHEN 1 THEN 1 ELSE least(slot - 1, batch) END];
        SELECT coalesce(array_agg(locked.id ORDER BY locked.id), '{}') INTO ids
          FROM (SELECT id FROM webhook_events
                 WHERE id = ANY (candidates) AND processed_at IS NULL AND dead_at IS NULL
                 ORDER BY id FOR UPDATE SKIP LOCKED) AS locked;
        -- Of each subject, those up to the first that could not be locked.
        IF cardinality(ids) < cardinality(candidates) THEN
            SELECT coalesce(array_agg(id ORDER BY id), '{}') INTO ids
              FROM (SELECT id, bool_and(id = ANY (ids)) OVER (PARTITION BY coalesce(subject, id::text) ORDER BY id) AS whole
                      FROM webhook_events WHERE id = ANY (candidates)) AS kept
             WHERE whole;
        END IF;

        -- None of those that came first could be taken: it is the suspect's turn, as the first that is looked at.
        IF ids = '{}' AND waiting_id IS NOT NULL THEN
            after_at := waiting_at;
            after_id := waiting_id - 1;
            ended := false;
        END IF;
        -- The bounds: on what one call reads, parks, and holds in the server's table of locks.
        EXIT WHEN ended OR ids <> '{}' OR locks >= 500 OR cardinality(seen_ids) >= 10000;
    END LOOP;

    blocked := ids = '{}' AND cardinality(seen_ids) > 0;
    more := ids = '{}' AND (parking > 0 OR NOT ended);
    IF NOT more THEN
        -- The next may begin at the first that was seen and not taken; what is as young as this can still be
        -- joined by elder ones, whose commit is under way.
        SELECT place.at, place.id INTO passed
          FROM unnest(seen_at, seen_ids) WITH ORDINALITY AS place (at, id, turn)
         WHERE place.id <> ALL (ids)
         ORDER BY turn LIMIT 1;
        IF passed.id IS NOT NULL THEN
            after_at := passed.at;
            after_id := passed.id - 1;
        ELSIF ended THEN
            after_at := now();
        END IF;
        IF after_at > now() - interval '3 seconds' THEN
            after_at := now() - interval '3 seconds';
            after_id := 0;
        END IF;
    END IF;
END $$;
