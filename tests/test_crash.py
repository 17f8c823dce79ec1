"""Nothing acknowledged is lost and no effect is doubled, whoever is killed, whenever."""

import http.client
import random
import threading
import time

import psycopg
import pytest

from tests.processes import agent_event, free_port, post, processor, receiver, wait_for

EVENTS, SENDERS = 5000, 8
PROCESSOR_KILLS, RECEIVER_KILLS = 10, 5


@pytest.fixture
def effects(fresh_dsn):
    with psycopg.connect(fresh_dsn, autocommit=True) as conn:
        conn.execute("CREATE TABLE effects (event_id text)")
        yield conn


def send_until_acknowledged(port, keys, acknowledged):
    """Send each event as a provider with patience would: the same bytes again until a 2xx."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    for key in keys:
        body, headers = agent_event(key)
        while key not in acknowledged:
            try:
                connection.request("POST", "/webhooks/agent", body, headers)
                response = connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                time.sleep(0.01)
            else:
                if response.status == 200:
                    acknowledged.add(key)
    connection.close()


def test_5000_events_survive_10_kills_of_the_processor_and_5_of_the_receiver(effects, fresh_dsn):
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - pytest shows it when the test fails
    chance, port = random.Random(seed), free_port()
    acknowledged: set[str] = set()
    keys = [f"event-{n}" for n in range(EVENTS)]

    def handled():
        return effects.execute("SELECT count(*) FROM effects").fetchone()[0]

    handlers = ("--interval", "0.05", "--handlers", "tests.crash_handlers")
    with receiver(fresh_dsn, port) as door, processor(fresh_dsn, *handlers) as worker:
        senders = [
            threading.Thread(target=send_until_acknowledged, args=(port, keys[i::SENDERS], acknowledged))
            for i in range(SENDERS)
        ]
        kills = [(mark, worker, handled) for mark in chance.sample(range(1, EVENTS - 500), PROCESSOR_KILLS)]
        kills += [
            (mark, door, lambda: len(acknowledged)) for mark in chance.sample(range(1, EVENTS - 500), RECEIVER_KILLS)
        ]
        for sender in senders:
            sender.start()
        for mark, victim, progress in sorted(kills, key=lambda kill: kill[0]):
            wait_for(lambda mark=mark, progress=progress: progress() >= mark)
            victim.kill_and_restart()
        for sender in senders:
            sender.join(60)
        wait_for(lambda: handled() >= EVENTS)

    assert len(acknowledged) == EVENTS
    lost = "SELECT count(*) FROM webhook_events WHERE processed_at IS NULL OR outcome <> 'handled'"
    doubled = "SELECT count(*) FROM (SELECT event_id FROM effects GROUP BY event_id HAVING count(*) > 1) AS twice"
    assert effects.execute(lost).fetchone() == (0,)
    assert effects.execute(doubled).fetchone() == (0,)
    assert effects.execute("SELECT count(*) FROM effects").fetchone() == (EVENTS,)
    assert effects.execute("SELECT count(*) FROM webhook_events").fetchone() == (EVENTS,)


def test_a_lone_delivery_is_handled_within_the_interval_and_a_tenth(effects, fresh_dsn):
    port = free_port()
    with receiver(fresh_dsn, port), processor(fresh_dsn, "--interval", "1", "--handlers", "tests.crash_handlers"):
        for n in range(5):
            assert post(port, *agent_event(f"lone-{n}")) == 200
            wait_for(lambda n=n: effects.execute("SELECT count(*) FROM effects").fetchone() == (n + 1,))

    waits = effects.execute(
        "SELECT extract(epoch FROM processed_at - received_at)::float8 FROM webhook_events ORDER BY id"
    ).fetchall()
    # The first may find the processor still starting.
    assert [wait for (wait,) in waits[1:] if wait > 1.1] == []
