-- Have a batch's end fail, sent in one string with its COMMIT, where its transaction is another one by now.
--
-- in   run_id bigint
-- out  true; an error that says what is wrong: this isn't the transaction that the run was claimed in
SELECT (CASE count(*) WHEN 1 THEN 'true' ELSE 'a handler ended the transaction it was given, and began another' END)::boolean
  FROM webhook_guards WHERE run_id = %(run_id)s;
