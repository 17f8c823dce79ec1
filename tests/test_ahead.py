"""The next batch is claimed, and its handlers run, while a full one's commit is under way.

What that changes is the time it takes, alone.
"""

import signal
from contextlib import contextmanager

import psycopg
import pytest

from processor import cursor, loop, on
from processor.attempt import CONFLICTS_MAX
from processor.loop import Processor
from tests.handler_fixtures import effects, no_handlers, write
from tests.inbox import add, look
from tests.processes import processor, wait_for

__all__ = ["effects", "no_handlers"]

BATCH = 20


@pytest.fixture
def drained(db, dsn):
    """Drain what is due in batches of 20, and return the connections that were made for it."""

    def drain():
        made = []

        def connect():
            made.append(psycopg.connect(dsn, autocommit=True, prepare_threshold=None))
            return made[-1]

        Processor(connect, BATCH).run(1, once=True)
        return made

    return drain


@pytest.fixture
def worker(dsn, monkeypatch):
    """One that overlaps however slow the machine is; made: the connections that it has made."""
    monkeypatch.setattr(loop, "QUICK", 600.0)
    monkeypatch.setattr(loop, "SETTLE_SECONDS", 600.0)
    made = []

    def connect():
        made.append(psycopg.connect(dsn, autocommit=True, prepare_threshold=None))
        return made[-1]

    worker = Processor(connect, BATCH)
    worker.made = made  # type: ignore[attr-defined]
    return worker


def told(caplog):
    return [int(message.split()[2][3:]) for message in caplog.messages if message.startswith("event handled")]


def outcomes(db):
    return db.execute(
        "SELECT outcome, attempts, suspect, crashes, count(*) FROM webhook_events GROUP BY 1, 2, 3, 4"
    ).fetchall()


def test_a_backlog_takes_a_worker_one_connection_more(db, effects, drained):
    on("call.ringing")(write)
    for _ in range(3 * BATCH):
        add(db)

    assert len(drained()) == 3
    assert outcomes(db) == [("handled", 1, False, 0, 3 * BATCH)]


def test_what_fills_no_batch_takes_none(db, effects, drained):
    on("call.ringing")(write)
    for _ in range(BATCH - 1):
        add(db)

    assert len(drained()) == 2


def test_the_other_connection_is_closed_where_nothing_is_left_to_do(db, effects, drained):
    on("call.ringing")(write)
    for _ in range(3 * BATCH):
        add(db)

    assert all(conn.closed for conn in drained())


def test_a_backlog_of_one_subject_keeps_its_order(db, effects, drained):
    seen = []
    on("call.ringing")(lambda event, conn: seen.append(event.id))
    events = [add(db, subject="call/CA1") for _ in range(5 * BATCH)]

    drained()

    assert seen == events


def test_a_handler_waits_for_a_row_that_the_batch_before_it_wrote(db, effects, drained):
    db.execute("CREATE TABLE counter (one int PRIMARY KEY, events bigint NOT NULL)")

    @on("call.ringing")
    def count(event, conn):
        conn.execute("INSERT INTO counter VALUES (1, 1) ON CONFLICT (one) DO UPDATE SET events = counter.events + 1")

    for _ in range(5 * BATCH):
        add(db)

    drained()
    counted = db.execute("SELECT events FROM counter").fetchone()
    db.execute("DROP TABLE counter")

    assert counted == (5 * BATCH,)
    assert outcomes(db) == [("handled", 1, False, 0, 5 * BATCH)]


@pytest.mark.parametrize("quick", [600.0, 0.0], ids=["quick", "slow"])
def test_a_commit_that_waits_for_the_next_batchs_handlers_has_it_when_they_are_done(
    db, effects, drained, monkeypatch, quick
):
    # The first batch's deferred check comes to a row that the second one's handlers have locked: it is let go on by
    # them, once they have it.
    monkeypatch.setattr(loop, "QUICK", quick)
    db.execute("CREATE TABLE shared (one int PRIMARY KEY)")
    db.execute("INSERT INTO shared VALUES (1)")
    db.execute("""
        CREATE FUNCTION wait_for_shared() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN PERFORM pg_advisory_xact_lock(77); PERFORM 1 FROM shared FOR UPDATE; RETURN NULL; END$$
    """)
    db.execute("""
        CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON effects DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION wait_for_shared()
    """)
    db.execute("SELECT pg_advisory_lock(77)")
    events = [add(db) for _ in range(2 * BATCH)]

    @on("call.ringing")
    def take(event, conn):
        if event.id == events[0]:
            write(event, conn)
        if event.id == events[BATCH]:
            conn.execute("SELECT FROM shared FOR UPDATE")
            db.execute("SELECT pg_advisory_unlock(77)")

    drained()
    db.execute("DROP TRIGGER waits ON effects; DROP FUNCTION wait_for_shared; DROP TABLE shared")

    assert outcomes(db) == [("handled", 1, False, 0, 2 * BATCH)]
    assert db.execute("SELECT event FROM effects").fetchall() == [(events[0],)]


def test_who_is_told_to_stop_says_what_became_of_the_commit_under_way(db, dsn, effects, caplog):
    worker = Processor(lambda: psycopg.connect(dsn, autocommit=True, prepare_threshold=None), BATCH)
    events = [add(db) for _ in range(3 * BATCH)]

    @on("call.ringing")
    def stop(event, conn):
        if event.id == events[BATCH]:
            worker.stopping.set()

    caplog.set_level("INFO", logger="processor")
    totals = worker.run(1)

    assert totals.handled == BATCH + 1
    assert [message.split()[2] for message in caplog.messages if message.startswith("event handled")] == [
        f"id={event}" for event in events[: BATCH + 1]
    ]
    assert db.execute("SELECT count(*) FROM webhook_events WHERE outcome = 'handled'").fetchone() == (BATCH + 1,)


def test_who_is_told_to_stop_with_another_batch_claimed_closes_nothing_before_its_answer(db, effects, worker, caplog):
    caplog.set_level("INFO", logger="processor")
    ran = []  # in whatever order: a claim that is sent behind a slow commit may come to its events after the next one
    for _ in range(6 * BATCH):
        add(db)

    @on("call.ringing")
    def stop(event, conn):
        write(event, conn)
        ran.append(event.id)
        if len(ran) == 3 * BATCH + 1:
            worker.stopping.set()

    totals = worker.run(1)

    assert totals.handled == len(ran) == 3 * BATCH + 1
    assert told(caplog) == ran
    assert all(conn.closed for conn in worker.made)


def test_a_batch_whose_end_can_not_be_sent_takes_no_word_of_the_one_before_it(db, effects, worker, caplog):
    caplog.set_level("INFO", logger="processor")
    ran = []
    for _ in range(4 * BATCH):
        add(db)

    @on("call.ringing")
    def end_the_session(event, conn):
        ran.append(event.id)
        if len(ran) == 4 * BATCH:
            db.execute("SELECT pg_terminate_backend(%s, 10000)", [conn.info.backend_pid])
            return
        write(event, conn)
        if len(ran) == 3 * BATCH + 1:
            raise ZeroDivisionError  # so that the end is more than one string

    with pytest.raises(psycopg.OperationalError):
        worker.run(1, once=True)

    assert told(caplog) == ran[: 3 * BATCH]


def test_who_has_done_the_little_that_was_due_goes_on_with_what_is_claimed(db, effects, worker, caplog, monkeypatch):
    # The second batch's commit, with the claim behind it, waits until the third one, of few events, has brought more.
    monkeypatch.setattr(cursor, "FULL_SCAN", 0.0)
    monkeypatch.setattr(cursor, "FULL_SCAN_MOST", 0.0)
    db.execute("""
        CREATE FUNCTION wait_for_more() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN PERFORM pg_advisory_xact_lock(78); RETURN NULL; END$$
    """)
    db.execute("""
        CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON effects DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION wait_for_more()
    """)
    db.execute("SELECT pg_advisory_lock(78)")
    caplog.set_level("INFO", logger="processor")
    events = [add(db) for _ in range(2 * BATCH + 1)]

    @on("call.ringing")
    def bring(event, conn):
        if event.id == events[BATCH]:
            write(event, conn)
        if event.id == events[2 * BATCH]:
            # Due since before the claim was sent, which is its time.
            events.extend(add(db, next_attempt_at="2020-01-01") for _ in range(BATCH))
            db.execute("SELECT pg_advisory_unlock(78)")
        if event.id == events[-1]:
            worker.stopping.set()

    worker.wakeup.wait(worker._open(), 0, worker.stopping)
    assert worker.wakeup.listening
    totals = worker.run(1)
    db.execute("DROP TRIGGER waits ON effects; DROP FUNCTION wait_for_more")

    assert totals.handled == 3 * BATCH + 1
    assert told(caplog) == events
    assert "database unavailable" not in caplog.text


def test_what_a_batch_leaves_to_the_next_is_seen_whatever_the_claim_sent_before_has_come_to(
    db, effects, worker, monkeypatch
):
    # The claim behind the first batch's commit only parks who waits behind the last event, and is to be made again.
    monkeypatch.setattr(cursor, "FULL_SCAN", 600.0)
    monkeypatch.setattr(cursor, "FULL_SCAN_MOST", 600.0)
    events = [add(db, next_attempt_at="2020-01-01") for _ in range(2 * BATCH)]
    add(db, subject="call/waits", next_attempt_at="2100-01-01")
    add(db, subject="call/waits", next_attempt_at="2020-01-02")
    lost = list[int]()

    @on("call.ringing")
    def lose(event, conn):
        if event.id == events[BATCH + 1] and len(lost) <= CONFLICTS_MAX:
            lost.append(event.id)
            raise psycopg.errors.SerializationFailure

    totals = worker.run(1, once=True)

    assert totals.handled == 2 * BATCH


def test_who_loses_to_another_at_each_commit_is_found_out_however_much_is_due_besides(db, effects, worker, caplog):
    db.execute("""
        CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN RAISE serialization_failure; END$$
    """)
    db.execute("""
        CREATE CONSTRAINT TRIGGER loses AFTER INSERT ON effects DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION lose()
    """)
    events = [add(db) for _ in range(10 * BATCH)]
    on("call.ringing")(lambda event, conn: write(event, conn) if event.id == events[0] else None)

    worker.run(1, once=True)
    db.execute("DROP TRIGGER loses ON effects; DROP FUNCTION lose")

    lost = [message for message in caplog.messages if message.startswith("batch lost to another transaction")]
    assert len(lost) == CONFLICTS_MAX
    assert db.execute("SELECT id FROM webhook_events WHERE outcome IS NULL").fetchall() == [(events[0],)]


def test_a_refused_commit_blames_nobody_whose_events_were_claimed_meanwhile(db, effects, drained):
    db.execute(
        "CREATE TABLE owed (event bigint PRIMARY KEY, paid bigint REFERENCES owed DEFERRABLE INITIALLY DEFERRED)"
    )

    @on("call.ringing")
    def owe(event, conn):
        # Checked at the batch's end alone; that of the first event can't be met, whoever runs beside it.
        conn.execute("INSERT INTO owed VALUES (%s, %s)", [event.id, -1 if event.id == first else event.id])

    first, *others = [add(db) for _ in range(3 * BATCH)]

    drained()
    paid = db.execute("SELECT event FROM owed ORDER BY event").fetchall()
    db.execute("DROP TABLE owed")

    blamed = "SELECT id FROM webhook_events WHERE last_error IS NOT NULL"
    assert db.execute(blamed).fetchall() == [(first,)]
    assert paid == [(event,) for event in others]
    done = "SELECT count(*) FROM webhook_events WHERE outcome = 'handled' AND attempts = 1 AND crashes = 0"
    assert db.execute(done).fetchone() == (len(others),)


def test_batches_that_are_refused_together_are_both_blamed(db, effects, worker):
    db.execute(
        "CREATE TABLE owed (event bigint PRIMARY KEY, paid bigint REFERENCES owed DEFERRABLE INITIALLY DEFERRED)"
    )
    ran = []

    @on("call.ringing")
    def owe(event, conn):
        ran.append(event.id)
        conn.execute("INSERT INTO owed VALUES (%s, -1)", [event.id])

    first, *_ = [add(db) for _ in range(4 * BATCH)]

    worker.run(1, once=True)
    db.execute("DROP TABLE owed")
    (attempts,) = look(db, first, "attempts")

    assert ran.count(first) == 1 + attempts, "with the others of its batch, and each time alone"


def test_a_connection_lost_with_events_claimed_ahead_frees_them(db, effects, dsn):
    on("call.ringing")(write)
    events = [add(db) for _ in range(2 * BATCH)]
    worker = Processor(lambda: psycopg.connect(dsn, autocommit=True, prepare_threshold=None), BATCH)
    worker.batch(worker._open(), BATCH)
    assert worker.relay.ahead is not None
    assert worker.session is not None
    db.execute("SELECT pg_terminate_backend(%s)", [worker.session.conn.info.backend_pid])

    with pytest.raises(psycopg.OperationalError):
        worker.run(1, once=True)
    worker.run(1, once=True)

    assert db.execute("SELECT event FROM effects ORDER BY event").fetchall() == [(event,) for event in events]
    assert outcomes(db) == [("handled", 1, False, 0, 2 * BATCH)]


@pytest.fixture
def held(fresh_dsn):
    """A worker's first batch, whose commit waits, beside a second one of one event of a kind."""

    @contextmanager
    def held(kind):
        with psycopg.connect(fresh_dsn, autocommit=True) as conn:
            conn.execute("""
                CREATE TABLE effects (event bigint);
                CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
                $$BEGIN PERFORM pg_advisory_xact_lock(79); RETURN NULL; END$$;
                CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON effects DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW WHEN (NEW.event = 1) EXECUTE FUNCTION wait();
                SELECT pg_advisory_lock(79)
            """)
            events = [add(conn) for _ in range(BATCH)]
            add(conn, kind)
            options = ("--interval", "0.05", "--batch-size", str(BATCH), "--handlers", "tests.poison_handlers")
            with processor(fresh_dsn, *options) as running:
                wait_for(lambda: conn.execute("SELECT FROM webhook_run_ids WHERE last_value > 1").fetchall())
                yield conn, running, events
                conn.execute("SELECT pg_advisory_unlock(79)")

    return held


@pytest.mark.parametrize("kind", ["poison.sleep", "poison.kill"])
def test_nobody_is_suspected_whose_commit_was_under_way_when_the_worker_was_ended(held, kind):
    with held(kind) as (conn, _, events):
        # Once the server sees that nobody waits for the commit, it ends that, and they are another worker's.
        again = "SELECT event_ids FROM webhook_runs WHERE run_id > 1 AND %s = ANY (event_ids)"
        wait_for(lambda: conn.execute(again, [events[0]]).fetchall())

        assert conn.execute(again, [events[0]]).fetchall() == [(events,)], "a suspect would run alone"


def test_nobody_is_suspected_whose_commit_was_under_way_when_the_worker_was_to_leave_at_once(held):
    with held("poison.forever") as (conn, running, _):

        def left():
            running.process.send_signal(signal.SIGTERM)
            return running.process.poll() is not None

        wait_for(left)

        assert conn.execute("SELECT * FROM webhook_runs").fetchall() == []


def test_who_writes_on_a_connection_kept_from_another_batch_is_not_handled_without_what_it_wrote(
    db, effects, worker, monkeypatch
):
    kept = []

    @on("call.ringing")
    def keep(event, conn):
        if event.id == events[BATCH]:
            kept.append(conn)
            monkeypatch.setattr(loop, "SETTLE_SECONDS", 0.0)  # so nothing more is claimed ahead
        write(event, kept[0] if event.id == events[3 * BATCH] else conn)

    events = [add(db) for _ in range(4 * BATCH)]
    worker.run(1, once=True)

    handled = db.execute("SELECT id, 'done' FROM webhook_events WHERE outcome = 'handled' ORDER BY id").fetchall()
    assert effects() == handled
    assert len(handled) == 4 * BATCH - 1


def test_what_is_sent_and_not_waited_for_is_the_servers_however_long_it_is(worker):
    # Else a commit would be under way to nobody, while the next batch waits for a row that it holds.
    session = worker._open()

    session.send(b"SELECT 1 -- " + b"x" * 2**25)

    assert session.conn.pgconn.flush() == 0
    session.answered()
    session.close()
