-- Roles of least privilege, to be granted to the logins that the processes use.
--
-- in   nothing; run by the tables' owner with CREATEROLE, after `processor db migrate`, again after upgrades
-- out  nothing
--
-- webhook_receiver: insert events and duplicates, see keys, count and quarantine refusals. Not payloads, no change, no delete.
-- webhook_processor: read, complete and emit events, write the handlers' tables. No DDL, no delete of events.
-- webhook_releaser: besides, see and release what is in quarantine, for `receiver explain` and `receiver release`.
-- webhook_pruner: delete old events, for the login of `processor db prune`, `run --prune-...` and `dead purge`.
DO $$
DECLARE
    held text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'webhook_receiver') THEN
        CREATE ROLE webhook_receiver NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'webhook_processor') THEN
        CREATE ROLE webhook_processor NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'webhook_pruner') THEN
        CREATE ROLE webhook_pruner NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'webhook_releaser') THEN
        CREATE ROLE webhook_releaser NOLOGIN;
    END IF;
    GRANT INSERT, SELECT (id, source, event_id, body_sha256) ON webhook_events TO webhook_receiver;
    GRANT SELECT ON webhook_tombstones TO webhook_receiver;
    GRANT INSERT, DELETE, SELECT (id, source) ON webhook_quarantine TO webhook_receiver;
    GRANT webhook_receiver TO webhook_releaser;
    GRANT SELECT, UPDATE (released_at) ON webhook_quarantine TO webhook_releaser;
    GRANT SELECT, INSERT, DELETE ON webhook_tombstones TO webhook_pruner;
    GRANT SELECT (received_at), DELETE ON webhook_quarantine TO webhook_pruner;
    GRANT INSERT ON webhook_duplicates TO webhook_receiver;
    GRANT SELECT, INSERT, UPDATE ON webhook_refusals TO webhook_receiver;
    GRANT SELECT ON webhook_refusals TO webhook_processor;
    GRANT SELECT ON webhook_migrations TO webhook_receiver, webhook_processor;
    GRANT SELECT, INSERT, UPDATE ON webhook_events TO webhook_processor;
    GRANT SELECT, INSERT, DELETE ON webhook_guards TO webhook_processor;
    GRANT SELECT, INSERT, UPDATE, DELETE ON webhook_attempts, webhook_pauses, webhook_breakers, webhook_expectations
       TO webhook_processor;
    GRANT SELECT, INSERT, UPDATE ON webhook_actions TO webhook_processor, webhook_pruner;
    GRANT DELETE ON webhook_actions TO webhook_pruner;
    GRANT SELECT, UPDATE, DELETE ON webhook_events TO webhook_pruner;
    GRANT SELECT, DELETE ON webhook_duplicates, webhook_refusals TO webhook_pruner;
    GRANT SELECT ON webhook_duplicates, dead_letters, webhook_backlog TO webhook_processor;
    GRANT SELECT, INSERT, UPDATE, DELETE ON webhook_runs TO webhook_processor;
    GRANT USAGE ON SEQUENCE webhook_run_ids TO webhook_processor;
    -- The systems of handlers/, of which a deployment may leave some out. The log of calls can be added to, and read.
    FOREACH held IN ARRAY ARRAY['campaigns', 'calls', 'messages', 'contacts', 'call_attempts', 'dialogues', 'reminders'] LOOP
        IF to_regclass(held) IS NOT NULL THEN
            EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO webhook_processor', held);
        END IF;
    END LOOP;
    FOREACH held IN ARRAY ARRAY['vapi_calls', 'campaign_progress', 'call_log', 'calls_by_hour', 'answer_rates',
                                'call_durations', 'cti_calls', 'cti_conversations'] LOOP
        IF to_regclass(held) IS NOT NULL THEN
            EXECUTE format('GRANT SELECT ON %I TO webhook_processor', held);
        END IF;
    END LOOP;
    GRANT SELECT, INSERT ON call_events TO webhook_processor;
    GRANT SELECT, DELETE ON call_events TO webhook_pruner;
END $$;
