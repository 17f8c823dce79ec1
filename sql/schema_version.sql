-- The newest migration applied; fails with 42P01 on a database that was never migrated.
--
-- in   nothing
-- out  version integer
SELECT max(version) AS version FROM webhook_migrations;
