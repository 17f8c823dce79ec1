-- Note that a prune begins, unless one began within so long, here or on another machine.
--
-- in   who text; chosen json text: what it was asked for; within interval; NULL: in any case
-- out  id bigint of the action; no row: one began within that time
--
-- In a transaction that holds the lock of lock_prune.sql: of two that begin at once, the second sees the first.
INSERT INTO webhook_actions (verb, who, chosen)
SELECT 'prune', %(who)s, %(chosen)s::jsonb
 WHERE %(within)s::interval IS NULL
    OR NOT EXISTS (SELECT FROM webhook_actions
                    WHERE verb = 'prune' AND started_at > clock_timestamp() - %(within)s::interval)
RETURNING id;
