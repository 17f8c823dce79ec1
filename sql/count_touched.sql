-- Rows that this transaction's statements have inserted, updated and deleted so far, with those not reported before.
--
-- in   nothing
-- out  a row a table, but for the guard's: its name, inserted, updated, deleted; only differences within a transaction mean something
SELECT relid::regclass::text AS name, n_tup_ins AS inserted, n_tup_upd AS updated, n_tup_del AS deleted
  FROM pg_stat_xact_user_tables
 WHERE relname <> 'webhook_guards' AND n_tup_ins + n_tup_upd + n_tup_del > 0;
