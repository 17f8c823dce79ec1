"""A worker that is killed, wherever it is: its events are free at once, and have one effect each in the end."""

import os
import signal
import time

from tests.faults.attempts import HANDLERS, attempts, effects, waits_for_a_lock
from tests.inbox import add, look
from tests.processes import processor, wait_for

FAST = ("--interval", "0.1", *HANDLERS)
LONG = 20.0  # seconds: far more than it takes, far less than a timeout or a lease


def test_killed_between_handler_and_commit_the_event_has_one_effect_and_the_same_key_again(conn, fresh_dsn, trace):
    conn.execute(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END $$;"
        "CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON effects DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION wait()"
    )
    conn.execute("SELECT pg_advisory_lock(1)")
    event = add(conn, "fault.note")

    with processor(fresh_dsn, *FAST):
        wait_for(lambda: waits_for_a_lock(conn))
        os.kill(attempts(trace)[0].pid, signal.SIGKILL)
        # The COMMIT has been sent already: the server makes it, unless it sees first that nobody is there any more.
        wait_for(lambda: not waits_for_a_lock(conn))
        conn.execute("SELECT pg_advisory_unlock(1)")
        wait_for(lambda: look(conn, event, "outcome") == ("handled",))

    assert effects(conn) == [event]
    assert {attempt.key for attempt in attempts(trace)} == {"twilio:event-1:0"}
    assert len(attempts(trace)) == 2


def test_killed_at_the_37th_of_50_each_has_one_effect_and_nobody_is_blamed(conn, fresh_dsn, trace):
    events = [add(conn, "fault.die_once" if n == 36 else "fault.note") for n in range(50)]

    with processor(fresh_dsn, *FAST):
        wait_for(lambda: len(effects(conn)) >= len(events))

    assert effects(conn) == events
    assert [attempt.event for attempt in attempts(trace)][:37] == events[:37]
    assert conn.execute("SELECT DISTINCT crashes, attempts, outcome FROM webhook_events").fetchall() == [
        (0, 1, "handled")
    ]


def test_the_events_of_a_processor_that_is_killed_are_taken_up_by_another(conn, fresh_dsn, trace):
    event = add(conn, "fault.sleep_once")

    with processor(fresh_dsn, *FAST) as first:
        wait_for(lambda: attempts(trace))
        with processor(fresh_dsn, *FAST) as second:
            first.process.kill()
            killed = time.monotonic()
            wait_for(lambda: look(conn, event, "outcome") == ("handled",))
            assert time.monotonic() - killed < LONG
            assert second.process.poll() is None

    assert effects(conn) == [event]


def test_a_worker_that_is_killed_during_a_query_leaves_its_events_free_all_the_same(conn, fresh_dsn, trace):
    event = add(conn, "fault.query_once")

    with processor(fresh_dsn, *FAST):
        wait_for(lambda: attempts(trace))
        os.kill(attempts(trace)[0].pid, signal.SIGKILL)
        wait_for(lambda: look(conn, event, "outcome") == ("handled",), LONG)

    assert effects(conn) == [event]
