"""A receiver that has gone without its database for long, and one of the release before: both store again."""

import asyncio

from benchmarks.server import answers
from receiver.samples import Sample
from tests.faults.history import History
from tests.faults.rig import rig
from tests.faults.sender import Policy, Sender
from tests.faults.traffic import Planned
from tests.processes import wait_for

MANY = 700  # more than may wait for the database at a time
# The statement of the receiver as it was released with migration 15.
RELEASED = """
    INSERT INTO webhook_events (
        app_id, source, provider, event_id, event_type, provider_type, subject, method, url,
        headers, body, body_sha256, payload, parse_error, occurred_at, dead_at, last_error
    )
    VALUES ('default', 'agent', 'agent', 'old', 'call.answered', 'call_answered', 'reminder/1', 'POST', '',
            '{}', '{}', sha256('{}'), '{}', NULL, NULL, NULL, NULL)
    ON CONFLICT (source, event_id) DO NOTHING
    RETURNING id
"""


def test_a_receiver_recovers_however_many_deliveries_came_while_the_database_was_away(server, tmp_path):
    flood = [Planned(n / 1000, "agent", Sample("call.answered", f"rem_{n}")) for n in range(MANY)]

    with rig(tmp_path, server.dsn, spool=False) as it, History(tmp_path / "history") as history:
        sender = Sender(it.port, it.sources, history, {"agent": Policy(5, 10)})
        server.stop()
        asyncio.run(sender.run(flood))
        server.start()
        wait_for(lambda: answers(it.port))

        asyncio.run(sender.run([Planned(0.0, "agent", Sample("call.answered", "rem_late"))]))

    assert [one.status for one in sender.answers] == [*[503] * MANY, 200]


def test_the_receiver_of_the_release_before_stores_in_todays_table(fresh_dsn, conn):
    assert conn.execute(RELEASED).fetchone() == (1,)
    assert conn.execute(RELEASED).fetchone() is None
