-- Claim due events for the transaction this runs in; see the function in migrations/0009_claim_suspects.sql.
--
-- in   batch integer (at most); sources, types text[] (only these; NULL: all); shut_types, shut_providers,
--      shut_sources text[] (none of these: an element of each a kind of event, NULL for any; NULL: no such kind);
--      prefix integer: of one subject, at most;
--      after_at timestamptz, after_id bigint: where to begin; '-infinity' and 0: at the oldest
-- out  run_id: this run, locked as alive until the transaction ends;
--      backend: the server's process (the driver's number is the pooler's, where there is one);
--      ids bigint[], in the order the events are to be run; after_at, after_id: where the next claim may begin;
--      more boolean: nothing yet, ask again there; blocked boolean: nothing but events whose turn it isn't
--
-- Row locks and subject locks are the claim: they end with the transaction, whether that commits, fails or its
-- worker dies, so nothing needs a rescuer. Until end_run the transaction refuses to be committed.
SELECT run_id, pg_backend_pid() AS backend, ids, after_at::text AS after_at, after_id, more, blocked
  FROM webhook_claim(%(batch)s, %(sources)s, %(types)s,
                     %(shut_types)s, %(shut_providers)s::text[], %(shut_sources)s::text[], %(prefix)s,
                     %(after_at)s::timestamptz, %(after_id)s);
