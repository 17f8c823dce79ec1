-- Claim due events for the transaction this runs in; see the function in 0003_order_and_crashes.sql.
--
-- in   run_id bigint: this run, locked as alive until the transaction ends; batch integer (at most);
--      sources, types text[] (only these; NULL: all)
-- out  ids bigint[], in the order the events are to be run; NULL: ask again, once this transaction is committed
--
-- Row locks and subject locks are the claim: they end with the transaction, whether that commits, fails or its
-- worker dies, so nothing needs a rescuer.
SELECT webhook_claim(%(run_id)s, %(batch)s, %(sources)s, %(types)s) AS ids;
