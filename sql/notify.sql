-- Tell the processors that listen that events were stored, or let one of them hear whether it would be told.
--
-- in   payload text: '' wakes them, 'probe' does not
-- out  nothing of use
--
-- Outside any insert's transaction: a commit with a NOTIFY in it holds a lock over all of the server's databases, so
-- inserts with one each would wait for each other. Not durable, because nothing rests on it: the processors poll.
SELECT set_config('synchronous_commit', 'off', true), pg_notify('webhook_events', %(payload)s);
