"""One subject's events are handled one at a time and in order, over any number of workers; the rest run freely."""

import random
import threading

import psycopg
import pytest

from processor import RetryLater, on
from processor.claim import Scope
from tests.handler_fixtures import no_handlers, seen
from tests.inbox import add, look, make_due, process
from tests.processes import DEADLINE, processor, wait_for

__all__ = ["no_handlers", "seen"]

EVENTS, SUBJECTS, WORKERS, KILLS = 1500, 40, 3, 6


def test_a_failing_event_holds_back_its_own_subject_and_no_other(db, seen):
    @on("call.ringing")
    def handle(event, conn):
        seen.append(event.id)
        if event.id == head and event.attempt == 1:
            raise ConnectionError

    head, follower, other, free = (add(db, subject=subject) for subject in ("call/1", "call/1", "call/2", None))

    process(db)
    assert sorted(seen) == [head, other, free]
    waits = "SELECT count(DISTINCT next_attempt_at) FROM webhook_events WHERE subject = 'call/1' AND attempts < 2"
    assert db.execute(waits).fetchone() == (1,), "the follower is due with its head"
    assert look(db, follower, "attempts") == (0,)

    make_due(db)
    process(db)
    assert seen[-2:] == [head, follower]


def test_an_event_that_comes_while_its_subject_waits_waits_too(db, seen):
    @on("call.ringing")
    def handle(event, conn):
        seen.append(event.id)
        if len(seen) == 1:
            raise RetryLater(600)

    add(db, subject="call/1")
    process(db)
    add(db, subject="call/1")
    process(db)

    assert seen == [1]


def test_a_dead_letter_lets_its_followers_pass(db, seen):
    @on("call.ringing", max_attempts=1)
    def handle(event, conn):
        seen.append(event.id)
        if event.id == 1:
            raise ConnectionError

    for _ in range(3):
        add(db, subject="call/1")

    process(db)

    assert seen == [1, 2, 3]


def test_a_subject_in_hand_is_nobody_elses(db, dsn, seen):
    entered, leave = threading.Event(), threading.Event()

    @on("call.ringing")
    def handle(event, conn):
        seen.append(event.id)
        entered.set()
        assert leave.wait(10)

    for _ in range(2):
        add(db, subject="call/1")

    def work():
        with psycopg.connect(dsn, autocommit=True) as conn:
            process(conn, batch_size=1, max_events=1)

    worker = threading.Thread(target=work)
    worker.start()
    assert entered.wait(10)

    assert process(db).claimed == 0

    leave.set()
    worker.join()
    process(db)
    assert seen == [1, 2]


def test_an_elder_event_that_is_replayed_waits_for_the_younger_one_in_hand(db, dsn, seen):
    entered, leave = threading.Event(), threading.Event()

    @on("call.ringing")
    def handle(event, conn):
        seen.append(event.id)
        entered.set()
        assert leave.wait(DEADLINE)

    elder = add(db, subject="call/1", processed_at="2026-01-01", outcome="handled")
    younger = add(db, subject="call/1")

    def work():
        with psycopg.connect(dsn, autocommit=True) as conn:
            process(conn, max_events=1)

    worker = threading.Thread(target=work)
    worker.start()
    assert entered.wait(DEADLINE)
    db.execute("UPDATE webhook_events SET processed_at = NULL WHERE id = %s", [elder])

    assert process(db).claimed == 0

    leave.set()
    worker.join()
    process(db)
    assert seen == [younger, elder]


def test_an_event_that_somebody_has_locked_is_not_overtaken_in_its_subject(db, dsn, seen):
    on("call.ringing")(lambda event, conn: seen.append(event.id))
    first, locked, last = (add(db, subject="call/1") for _ in range(3))

    with psycopg.connect(dsn) as operator:
        operator.execute("SELECT FROM webhook_events WHERE id = %s FOR UPDATE", [locked])
        process(db)
        assert seen == [first]

    process(db)
    assert seen == [first, locked, last]


def test_what_a_dead_worker_had_in_hand_is_left_alone_until_its_death_is_accounted_for(db, seen):
    on("call.ringing")(lambda event, conn: seen.append(event.id))
    first, free = add(db, subject="call/1"), add(db, subject=None)
    add(db, subject="call/1")
    run = "INSERT INTO webhook_runs (run_id, worker, event_ids) VALUES (7, 'gone:1', %s)"
    db.execute(run, [[first, free]])

    process(db)

    assert seen == []


def test_many_followers_of_a_waiting_event_do_not_keep_others_waiting(db, seen):
    on("call.ringing")(lambda event, conn: seen.append(event.id))
    add(db, subject="call/1", last_error="down", attempts=1, next_attempt_at="2100-01-01")
    db.execute(
        "INSERT INTO webhook_events (source, provider, event_id, event_type, subject, payload)"
        " SELECT 'twilio', 'twilio', n, 'call.ringing', 'call/1', '{}' FROM generate_series(1, 5000) AS n"
    )
    other = add(db, subject="call/2", event_id="other")

    process(db)

    assert seen == [other]
    assert db.execute("SELECT count(*) FROM webhook_events WHERE next_attempt_at <= now()").fetchone() == (1,)


@pytest.fixture
def notes(fresh_dsn):
    with psycopg.connect(fresh_dsn, autocommit=True) as conn:
        conn.execute("CREATE TABLE effects (event bigint, subject text, began timestamptz, ended timestamptz)")
        conn.execute("CREATE SEQUENCE coin")
        yield conn


def test_order_holds_over_three_workers_that_are_killed_and_events_that_have_to_wait(notes, fresh_dsn):
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - pytest shows it when the test fails
    chance = random.Random(seed)
    notes.execute(
        "INSERT INTO webhook_events (source, provider, event_id, event_type, subject, payload)"
        " SELECT 'twilio', 'twilio', n, 'call.ringing', 'call/' || n %% %s, '{}' FROM generate_series(1, %s) AS n",
        [SUBJECTS, EVENTS],
    )

    def handled():
        (count,) = notes.execute("SELECT count(*) FROM effects").fetchone() or (0,)
        return count

    options = ("--interval", "0.05", "--batch-size", "20", "--handlers", "tests.order_handlers")
    with processor(fresh_dsn, *options) as a, processor(fresh_dsn, *options) as b, processor(fresh_dsn, *options) as c:
        for mark in sorted(chance.sample(range(1, EVENTS - 200), KILLS)):
            wait_for(lambda mark=mark: handled() >= mark)
            chance.choice([a, b, c]).kill_and_restart()
        wait_for(lambda: handled() >= EVENTS)

    disorder = """
        SELECT count(*) FROM (
            SELECT event < lag(event) OVER one OR began < lag(ended) OVER one AS wrong
              FROM effects WINDOW one AS (PARTITION BY subject ORDER BY began)) AS pairs WHERE wrong
    """
    assert notes.execute(disorder).fetchone() == (0,)
    assert notes.execute("SELECT count(*), count(DISTINCT event) FROM effects").fetchone() == (EVENTS, EVENTS)
    unfinished = "SELECT count(*) FROM webhook_events WHERE outcome IS DISTINCT FROM 'handled'"
    assert notes.execute(unfinished).fetchone() == (0,)
    assert notes.execute("SELECT count(*) FROM webhook_runs").fetchone() == (0,)


@pytest.mark.parametrize(
    "change",
    [
        "processed_at = now()",
        "next_attempt_at = now()",
        "dead_at = now(), last_error = 'by hand'",
    ],
)
def test_what_waits_behind_an_event_is_due_as_soon_as_that_no_longer_waits(db, seen, change):
    @on("call.ringing")
    def handle(event, conn):
        seen.append(event.id)
        if event.id == head and event.attempt == 1:
            raise RetryLater(3600)

    head = add(db, subject="call/1")
    process(db)
    db.execute("UPDATE webhook_events SET attempts = 1 WHERE id = %s", [head])
    followers = [add(db, subject="call/1") for _ in range(3)]
    process(db)
    assert look(db, followers[0], "parked") == (True,)

    db.execute(f"UPDATE webhook_events SET {change} WHERE id = {head}".encode())
    process(db)

    assert seen[-3:] == followers


def test_a_paused_type_is_left_alone_and_so_is_what_must_come_after_it(db, seen):
    on("call.ringing", "call.answered")(lambda event, conn: seen.append(event.id))
    db.execute("INSERT INTO webhook_pauses (kind, name) VALUES ('type', 'call.answered')")
    paused = add(db, "call.answered", subject="call/1")
    follower, free = add(db, subject="call/1"), add(db)

    process(db)
    assert seen == [free]

    db.execute("DELETE FROM webhook_pauses")
    process(db)
    assert seen == [free, paused, follower]


@pytest.mark.parametrize(("kind", "name"), [("type", "call.ringing"), ("source", "twilio")])
def test_a_pause_holds_back_events_without_subject_as_well(db, seen, kind, name):
    on("call.ringing", "call.answered")(lambda event, conn: seen.append(event.id))
    db.execute("INSERT INTO webhook_pauses (kind, name) VALUES (%s, %s)", [kind, name])
    add(db, subject=None)
    other = add(db, "call.answered", subject=None, source="other")

    process(db)

    assert seen == [other]


def test_what_waits_behind_a_paused_event_is_parked_and_due_as_soon_as_the_pause_is_cut_short(db, seen):
    on("call.ringing", "call.answered")(lambda event, conn: seen.append(event.id))
    db.execute("INSERT INTO webhook_pauses (kind, name) VALUES ('type', 'call.answered')")
    paused, follower = add(db, "call.answered", subject="call/1"), add(db, subject="call/1")
    process(db)
    assert look(db, follower, "parked") == (True,)

    db.execute("UPDATE webhook_pauses SET until = now()")
    process(db)

    assert seen == [paused, follower]


@pytest.mark.parametrize("scope", [Scope(sources=["twilio"]), Scope(types=["call.ringing"])], ids=["sources", "types"])
def test_a_processor_of_a_scope_takes_nothing_else_and_overtakes_nothing_else(db, seen, scope):
    on("call.ringing", "call.answered")(lambda event, conn: seen.append(event.id))
    others = {"event_type": "call.answered", "source": "other"}
    add(db, subject=None, **others)
    add(db, subject="call/1", **others)
    add(db, subject="call/1")
    free = add(db, subject=None)

    process(db, scope=scope)

    assert seen == [free]


def test_a_pause_that_is_over_holds_back_nobody(db, seen):
    on("call.ringing")(lambda event, conn: seen.append(event.id))
    db.execute("INSERT INTO webhook_pauses (kind, name, until) VALUES ('source', 'twilio', now() - interval '1 s')")
    event = add(db)

    process(db)

    assert seen == [event]


def test_hundreds_of_subjects_behind_a_paused_type_do_not_hide_one_that_is_free(db, seen):
    on("call.ringing", "call.answered")(lambda event, conn: seen.append(event.id))
    db.execute("INSERT INTO webhook_pauses (kind, name) VALUES ('type', 'call.answered')")
    for event_type in ("call.answered", "call.ringing"):
        db.execute(
            "INSERT INTO webhook_events (source, provider, event_id, event_type, subject, payload)"
            " SELECT 'twilio', 'twilio', %(type)s || n, %(type)s, 'call/' || n, '{}' FROM generate_series(1, 700) AS n",
            {"type": event_type},
        )
    free = add(db)

    process(db)

    assert seen == [free]


def test_hundreds_of_subjects_whose_turn_is_another_processors_do_not_hide_one_that_is_free(db, seen):
    on("call.ringing", "call.answered")(lambda event, conn: seen.append(event.id))
    for event_type in ("call.answered", "call.ringing"):
        db.execute(
            "INSERT INTO webhook_events (source, provider, event_id, event_type, subject, payload)"
            " SELECT 'twilio', 'twilio', %(type)s || n, %(type)s, 'call/' || n, '{}' FROM generate_series(1, 700) AS n",
            {"type": event_type},
        )
    free = add(db)

    process(db, scope=Scope(types=["call.ringing"]))

    assert seen == [free]
