"""Events that hold back their subject only so long, and then yield to those behind them."""

from typing import Any

from processor import RetryLater, on
from tests.handler_fixtures import no_handlers, seen
from tests.inbox import add, look, make_due, process

__all__ = ["no_handlers", "seen"]


def test_with_skip_after_a_failing_event_holds_its_followers_back_only_so_long(db, seen):
    @on("call.ringing", skip_after=60)
    def handle(event, conn):
        seen.append(event.id)
        if event.id == head:
            raise ConnectionError

    head, follower = add(db, subject="call/1"), add(db, subject="call/1")

    process(db)
    process(db)
    assert seen == [head], "the follower waits"

    minute_passed(db, head)
    process(db)

    assert seen == [head, follower]
    assert look(db, head, "attempts, processed_at, dead_at") == (1, None, None), "it is tried again in its time"
    make_due(db)
    process(db)
    assert seen == [head, follower, head]


def test_the_time_until_an_event_yields_counts_from_its_first_failure(db, seen):
    @on("call.ringing", skip_after=60)
    def handle(event, conn):
        raise ConnectionError

    event = add(db, subject="call/1")

    process(db)
    first = look(db, event, "yields_at")
    make_due(db)
    process(db)

    assert look(db, event, "attempts") == (2,)
    assert look(db, event, "yields_at") == first


def minute_passed(conn, event):
    conn.execute("UPDATE webhook_events SET yields_at = now() WHERE id = %s", [event])
    conn.execute("UPDATE webhook_events SET next_attempt_at = now() WHERE parked")


def test_followers_of_an_event_with_skip_after_are_parked_no_longer_than_that(db, seen):
    @on("call.ringing", skip_after=2)
    def handle(event, conn):
        raise RetryLater(600)

    add(db, subject="call/1")
    follower = add(db, subject="call/1")

    process(db)
    process(db)

    assert look(db, follower, "parked, next_attempt_at < now() + interval '3 seconds'") == (True, True)


def test_several_events_that_yield_hold_back_nobody(db, seen):
    @on("call.ringing", skip_after=0)
    def handle(event, conn):
        seen.append(event.id)
        if event.id < 30:
            raise RetryLater(600)

    for _ in range(30):
        add(db, subject="call/1")
    for _ in range(30):
        process(db)

    assert seen == list(range(1, 31))


YIELDS: dict[str, Any] = {"yields_at": "2026-01-01", "attempts": 1, "last_error": "x"}


def test_behind_one_that_yields_an_event_that_waits_has_its_followers_parked(db, seen):
    on("call.ringing")(lambda event, conn: seen.append(event.id))
    add(db, subject="call/1", next_attempt_at="2100-01-01", **YIELDS)
    add(db, subject="call/1", next_attempt_at="2100-01-01")
    follower = add(db, subject="call/1")

    process(db)

    assert look(db, follower, "parked") == (True,)


def test_an_event_that_yields_holds_back_nobody_also_where_it_is_paused(db, seen):
    on("call.ringing")(lambda event, conn: seen.append(event.id))
    db.execute("INSERT INTO webhook_pauses (kind, name) VALUES ('type', 'call.answered')")
    add(db, "call.answered", subject="call/1", **YIELDS)
    follower = add(db, subject="call/1")

    process(db)

    assert seen == [follower]
