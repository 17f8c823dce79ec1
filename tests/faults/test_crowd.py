"""Sixteen workers, and a hundred deliveries of one event at the same moment: one row, one effect."""

import threading
from concurrent.futures import ThreadPoolExecutor

from tests.faults.attempts import HANDLERS, effects
from tests.inbox import add
from tests.processes import agent_event, free_port, post, processor, receiver, wait_for

AT_ONCE = 100


def test_sixteen_workers_in_two_processors_give_each_event_one_effect(conn, fresh_dsn, trace):
    add(conn, "fault.note")
    conn.execute(
        "INSERT INTO webhook_events (source, provider, event_id, event_type, subject, payload)"
        " SELECT 'twilio', 'twilio', n, 'fault.note', 'call/' || n %% 40, '{}' FROM generate_series(1, %s) AS n",
        [1999],
    )

    options = ("--interval", "0.1", "--workers", "8", *HANDLERS)
    with processor(fresh_dsn, *options), processor(fresh_dsn, *options):
        wait_for(lambda: len(effects(conn)) >= 2000)

    assert effects(conn) == list(range(1, 2001))


def test_a_hundred_deliveries_of_one_event_at_once_are_one_row_and_one_effect(conn, fresh_dsn):
    port, together = free_port(), threading.Barrier(AT_ONCE)
    body, headers = agent_event("the-one")
    conn.execute("ALTER TABLE effects ALTER event TYPE text")

    def send(_):
        together.wait()
        return post(port, body, headers)

    handlers = ("--interval", "0.1", "--handlers", "tests.crash_handlers")
    conn.execute("ALTER TABLE effects RENAME event TO event_id")
    with receiver(fresh_dsn, port), processor(fresh_dsn, *handlers), ThreadPoolExecutor(AT_ONCE) as senders:
        statuses = list(senders.map(send, range(AT_ONCE)))
        wait_for(lambda: conn.execute("SELECT count(*) FROM effects").fetchone() != (0,))

    assert statuses == [200] * AT_ONCE
    assert conn.execute("SELECT count(*) FROM webhook_events").fetchone() == (1,)
    assert conn.execute("SELECT count(*) FROM webhook_duplicates").fetchone() == (AT_ONCE - 1,)
    assert conn.execute("SELECT count(*) FROM effects").fetchone() == (1,)
