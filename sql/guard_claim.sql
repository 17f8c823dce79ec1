-- Have the server end this transaction when its worker is gone without a word; the first of a batch's statements.
--
-- in   idle_ms integer: the longest that a handler may leave the connection alone, in milliseconds
-- out  nothing of use
--
-- Without them a query that a dead worker left behind goes on and keeps its event locked, and a machine that
-- vanished keeps it for hours. They end with the transaction: a pooler's next client is given nothing of them.
SELECT set_config('idle_in_transaction_session_timeout', %(idle_ms)s::text, true),
       set_config('client_connection_check_interval', '1s', true),
       set_config('tcp_keepalives_idle', '10', true),
       set_config('tcp_keepalives_interval', '5', true),
       set_config('tcp_keepalives_count', '3', true);
