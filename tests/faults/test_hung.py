"""A database that hangs: frozen by SIGSTOP, or behind a link that swallows all. No timeout of TCP's ever fires."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import psycopg
import pytest

from receiver import lanes
from receiver.store import CONNECTIONS_MAX
from tests.faults.attempts import HANDLERS, attempts, effects
from tests.faults.cable import Cable
from tests.faults.inboxes import IN_TIME, inbox, seconds, send, send_timed, until_stored
from tests.inbox import add, look
from tests.processes import processor, wait_for

BACK = 6.0  # seconds; measured: 0.1 after a freeze, up to 2.6 after a cut


class Frozen:
    """The server's processes are stopped: what was sent to them is read when they go on."""

    def __init__(self, one, cable):
        self.dsn, self.hang, self.go_on = one.dsn, one.freeze, one.thaw

    def is_noticed(self):
        return True  # nobody can see it; what was asked is answered in the end


class Cut:
    """The link takes everything and passes nothing on: what was sent is lost, and so are the connections."""

    def __init__(self, one, cable):
        self.dsn, self.hang, self.go_on, self.cable = cable.dsn, cable.cut, cable.mend, cable

    def is_noticed(self):
        return self.cable.swallowed > 0  # connections that were made since


@pytest.fixture(params=[Frozen, Cut], ids=["frozen", "cut"])
def database(request, server):
    with Cable(server.dsn) as cable:
        yield request.param(server, cable)
        server.thaw()


@pytest.fixture
def db(server, database):
    with psycopg.connect(server.dsn, autocommit=True) as conn:
        yield conn


@pytest.fixture
def receiver(tmp_path, database, monkeypatch):
    with inbox(tmp_path, database.dsn) as receiver:
        with monkeypatch.context() as apart:
            apart.setattr(lanes, "ROWS_MAX", 1)
            apart.setattr(lanes, "LATE", 0.0)
            fill_the_pool(receiver, database.dsn)
        yield receiver
        database.go_on()


def fill_the_pool(receiver, dsn) -> None:
    """Store 12 reminders in a way that takes all connections it may have."""
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'inbox-receiver' AND wait_event_type = 'Lock'"
    )
    with (
        psycopg.connect(dsn) as blocker,
        psycopg.connect(dsn, autocommit=True) as conn,
        ThreadPoolExecutor(1) as beside,
    ):
        blocker.execute("LOCK TABLE webhook_events")
        sent = beside.submit(send, receiver, range(12))
        wait_for(lambda: conn.execute(waiting).fetchone() == (CONNECTIONS_MAX,) or sent.done())
        blocker.rollback()
        assert sent.result() == [200] * 12


def test_each_delivery_is_answered_in_time_while_it_hangs_and_stored_soon_after(database, db, receiver):
    database.hang()
    for _ in range(2):  # the second finds every connection taken by a late call of the first
        statuses, took = send_timed(receiver, range(12, 28))
        assert statuses == {503}
        assert took < IN_TIME
    database.go_on()

    assert until_stored(receiver, 28) < BACK
    assert set(send(receiver, range(12, 28))) == {200}
    assert db.execute("SELECT count(*), count(DISTINCT event_id) FROM webhook_events").fetchone() == (29, 29)


def test_the_process_answers_that_it_lives_all_the_time(database, receiver):
    database.hang()
    with ThreadPoolExecutor(1) as beside:
        beside.submit(send, receiver, range(12, 28))
        took = [seconds(lambda: receiver.send("GET", "/livez", {})) for _ in range(20)]

    assert max(took) < 1


def test_the_receiver_ends_at_once_while_it_hangs(tmp_path, database):
    with ExitStack() as stack:
        stack.callback(database.go_on)
        receiver = stack.enter_context(inbox(tmp_path, database.dsn))
        assert set(send(receiver, range(8))) == {200}
        database.hang()
        assert set(send(receiver, range(8, 16))) == {503}

        assert seconds(receiver.stop) < 6  # a cancelled call of psycopg's takes ten


def test_an_idle_processor_notices_and_goes_on_once_it_is_back(database, db, trace):
    with processor(database.dsn, "--interval", "0.2", "--workers", "2", *HANDLERS):
        first = add(db, "fault.note")
        wait_for(lambda: effects(db) == [first])
        database.hang()
        wait_for(database.is_noticed)
        database.go_on()
        second = add(db, "fault.note")
        assert seconds(lambda: wait_for(lambda: effects(db) == [first, second])) < BACK


def test_a_processor_finishes_what_it_was_at_once_and_no_more_often(database, db, trace):
    event = add(db, "fault.wait_for_a_file")
    with processor(database.dsn, "--interval", "0.2", "--handler-timeout", "3", *HANDLERS):
        wait_for(lambda: attempts(trace))
        database.hang()
        trace.with_suffix(".go").touch()
        wait_for(database.is_noticed)
        database.go_on()
        # The session whose end the server wasn't told of ends by its timeout, and the event is free then.
        wait_for(lambda: look(db, event, "outcome") == ("handled",))

    assert effects(db) == [event]
