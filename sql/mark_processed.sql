-- Close claimed events, in the transaction that holds their row locks and their handlers' writes.
--
-- in   ids bigint[]; outcome text: handled | no_handler; durations real[] (seconds), versions text[]: an element an event
-- out  nothing; see the function in migrations/0021_complete_by_function.sql
SELECT webhook_complete(%(ids)s::bigint[], %(outcome)s, %(durations)s::real[], %(versions)s::text[]);
