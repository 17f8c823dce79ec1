"""A few quick events share a savepoint: what one's failure undoes of the others is done again, and nobody sees more."""

import psycopg
import pytest

from processor import Discard, RetryLater, handed, loop, on
from processor.workers import Crew
from tests.handler_fixtures import effects, no_handlers, seen, work, write
from tests.inbox import add, look

__all__ = ["effects", "no_handlers", "seen", "work"]


@pytest.fixture
def failing(seen):
    """Register a handler that writes, and fails at one event; return what it was called with."""

    def register(failure, *, after=True):
        @on("call.ringing")
        def handle(event, conn):
            seen.append(event.id)
            if event.payload.get("fails") and not after:
                raise failure
            write(event, conn)
            if event.payload.get("fails"):
                raise failure

        return seen

    return register


def outcomes(db):
    return db.execute("SELECT id, outcome, attempts FROM webhook_events ORDER BY id").fetchall()


def test_what_a_failure_undoes_besides_is_run_again_and_counts_once(db, effects, work, failing):
    called = failing(ZeroDivisionError())
    first, second, bad, last = add(db), add(db), add(db, payload={"fails": True}), add(db)

    work()

    assert called == [first, second, bad, first, second, last], "who failed does so once"
    assert effects() == [(first, "done"), (second, "done"), (last, "done")]
    assert outcomes(db) == [(first, "handled", 1), (second, "handled", 1), (bad, None, 1), (last, "handled", 1)]


@pytest.mark.parametrize("answer", [(Discard("no"), 1), (RetryLater(60), 0)])
def test_an_answer_undoes_no_more_than_a_failure(db, effects, work, failing, answer):
    failure, attempts = answer
    failing(failure)
    first, bad, last = add(db), add(db, payload={"fails": True}), add(db)

    work()

    assert effects() == [(first, "done"), (last, "done")]
    assert outcomes(db) == [(first, "handled", 1), (bad, None, attempts), (last, "handled", 1)]


def test_who_fails_before_it_sent_anything_undoes_nobody(db, effects, work, failing):
    called = failing(ZeroDivisionError(), after=False)
    first, bad, last = add(db), add(db, payload={"fails": True}), add(db)

    work()

    assert called == [first, bad, last]


def test_after_a_failure_events_share_no_savepoint(db, effects, work, failing):
    called = failing(ZeroDivisionError())
    first, bad, second, worse, last = (
        add(db), add(db, payload={"fails": True}), add(db), add(db, payload={"fails": True}), add(db)
    )  # fmt: skip

    work()

    assert called == [first, bad, first, second, worse, last]


def test_the_events_of_a_subject_keep_their_order_where_one_undoes_those_before_it(db, effects, work):
    order = []

    @on("call.ringing")
    def handle(event, conn):
        order.append(event.id)
        conn.execute("INSERT INTO effects SELECT %s, count(*)::text FROM effects", [event.id])
        if event.payload.get("fails"):
            raise ZeroDivisionError

    first = add(db, subject="call/1")
    second = add(db, subject="call/1")
    bad = add(db, subject="call/1", payload={"fails": True})
    behind = add(db, subject="call/1")
    other = add(db, subject="call/2")

    work()

    assert effects() == [(first, "0"), (second, "1"), (other, "2")]
    assert look(db, behind, "outcome, attempts") == (None, 0)
    assert order == [first, second, bad, first, second, other]


def test_one_that_fails_when_it_is_run_again_holds_its_subject(db, effects, work):
    calls: list[int] = []

    @on("call.ringing")
    def handle(event, conn):
        calls.append(event.id)
        write(event, conn)
        if event.payload.get("fails") or calls.count(event.id) == event.payload.get("fails_at"):
            raise ZeroDivisionError

    first = add(db, subject="call/1", payload={"fails_at": 2})
    behind = add(db, subject="call/1")
    bad = add(db, payload={"fails": True})

    work()

    assert calls == [first, behind, bad, first]
    assert effects() == []
    assert outcomes(db) == [(first, None, 1), (behind, None, 0), (bad, None, 1)]


def test_who_sent_nothing_waits_as_well_behind_one_of_its_subject_that_fails_when_it_is_run_again(db, effects, work):
    calls: list[int] = []

    @on("call.ringing")
    def handle(event, conn):
        calls.append(event.id)
        if not event.payload.get("quiet"):
            write(event, conn)
        if event.payload.get("fails") or calls.count(event.id) == event.payload.get("fails_at"):
            raise ZeroDivisionError

    first = add(db, subject="call/1", payload={"fails_at": 2})
    quiet = add(db, subject="call/1", payload={"quiet": True})
    other = add(db, payload={"quiet": True})
    bad = add(db, payload={"fails": True})

    work()

    assert calls == [first, quiet, other, bad, first]
    assert outcomes(db) == [(first, None, 1), (quiet, None, 0), (other, "handled", 1), (bad, None, 1)]


def test_who_is_run_again_finds_its_event_as_it_came(db, effects, work):
    @on("call.ringing")
    def handle(event, conn):
        write(event, conn, str(event.payload["number"]))
        event.payload["number"] += 1
        if event.payload.get("fails"):
            raise ZeroDivisionError

    event = add(db, payload={"number": 1})
    add(db, payload={"number": 5, "fails": True})

    work()

    assert effects() == [(event, "1")]


def test_who_sends_more_than_plain_statements_has_a_savepoint_of_its_own(db, effects, work, seen):
    @on("call.ringing")
    def handle(event, conn):
        seen.append(event.id)
        if event.payload.get("fails"):
            conn.execute("SET LOCAL search_path = pg_catalog")
            raise ZeroDivisionError
        write(event, conn)

    first, bad = add(db), add(db, payload={"fails": True})

    work()

    assert seen == [first, bad]
    assert effects() == [(first, "done")]


def test_what_an_earlier_event_left_on_the_session_fails_none_of_those_that_share_with_it(db, effects, work):
    db.execute("CREATE FUNCTION hide() RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET search_path = pg_catalog; END $$")

    @on("call.ringing")
    def handle(event, conn):
        write(event, conn)
        if event.payload.get("hides"):
            conn.execute("SELECT hide()")

    events = [add(db), add(db, payload={"hides": True}), add(db), add(db)]

    work()
    db.execute("DROP FUNCTION hide")

    assert effects() == [(event, "done") for event in events]
    assert outcomes(db) == [(event, "handled", 1) for event in events]


def test_nobody_joins_in_late(db, effects, work, failing, monkeypatch):
    monkeypatch.setattr(handed, "SHARING_SECONDS", -1.0)
    called = failing(ZeroDivisionError())
    first, bad = add(db), add(db, payload={"fails": True})

    work()

    assert called == [first, bad]


def test_no_more_than_ten_are_undone(db, effects, work, failing):
    called = failing(ZeroDivisionError())
    events = [add(db) for _ in range(25)]
    bad = add(db, payload={"fails": True})

    work()

    assert called == [*events, bad, *events[20:]]


@pytest.mark.parametrize("seconds", [0.001, 0.15])
def test_an_answer_that_takes_its_time_is_waited_for(db, effects, work, seconds):
    @on("call.ringing")
    def handle(event, conn):
        write(event, conn)
        for number in range(2):
            (answer,) = conn.execute("SELECT %s::int FROM pg_sleep(%s)", [number, seconds]).fetchone()
            assert answer == number
        write(event, conn)

    event = add(db)

    work()

    assert effects() == [(event, "done")] * 2


def sizes(db):
    """Return how many events each batch had, biggest first."""
    batches = (
        "SELECT count(*) FROM (SELECT xmin::text AS batch FROM webhook_events) AS one GROUP BY batch ORDER BY 1 DESC"
    )
    return [size for (size,) in db.execute(batches).fetchall()]


@pytest.fixture
def drain(dsn):
    """Do what is due as `processor run` does with these options, and return what became of it."""

    def drain(**options):
        make, *_ = Crew(lambda: psycopg.connect(dsn, autocommit=True), **options).makes()
        return make().run(0.05, once=True)

    return drain


def test_batches_grow_while_their_events_are_light(db, effects, drain, monkeypatch):
    monkeypatch.setattr(loop, "QUICK", 60.0)  # however slow the machine
    on("call.ringing")(write)
    for _ in range(4 * loop.LIGHT_SIZE):
        add(db)

    drain()

    assert max(sizes(db)) == loop.LIGHT_SIZE


def test_batches_are_no_bigger_than_was_asked_for(db, effects, drain):
    on("call.ringing")(write)
    for _ in range(60):
        add(db)

    drain(batch_size=10)

    assert max(sizes(db)) <= 10


def test_batches_of_events_that_take_a_savepoint_each_stay_small(db, effects, drain):
    on("call.ringing")(lambda event, conn: conn.execute("SET LOCAL work_mem = '1MB'"))
    for _ in range(3 * loop.BATCH_SIZE):
        add(db)

    drain()

    assert max(sizes(db)) <= loop.BATCH_SIZE


def test_batches_that_take_their_time_stay_small(db, effects, drain, monkeypatch):
    monkeypatch.setattr(loop, "QUICK", 0.0)
    on("call.ringing")(write)
    for _ in range(3 * loop.BATCH_SIZE):
        add(db)

    drain()

    assert max(sizes(db)) <= loop.BATCH_SIZE
