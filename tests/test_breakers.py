"""Handlers that fail again and again wait: breakers of outside handlers, their probes, and what opens none."""

from processor import RetryLater, on, registry
from processor.breakers import Breakers
from tests.inbox import add, make_due
from tests.outside_fixtures import called, work

__all__ = ["called", "work"]


def test_after_20_failures_in_a_row_its_events_wait_for_a_probe_and_spend_no_attempt(db, called, work):
    down = True

    @on("call.completed", outside=True)
    def push(event):
        called.append(event.id)
        if down:
            raise ConnectionError("crm is down")

    on("call.ringing", outside=True)(lambda event: called.append("other"))
    for _ in range(30):
        add(db, "call.completed")
    work(concurrency=1)
    open_breakers = "SELECT failures, probe_at > now(), last_error FROM webhook_breakers"
    assert db.execute(open_breakers).fetchall()[0][1:] == (True, "ConnectionError: crm is down")
    tried = len(called)
    assert 20 <= tried <= 22, "those that had been leased ahead fail as well"

    make_due(db)
    add(db, "call.ringing")
    work(concurrency=1)
    assert called[tried:] == ["other"], "the breaker is this handler's alone"

    db.execute("UPDATE webhook_breakers SET probe_at = now()")
    work(concurrency=1)
    assert len(called) == tried + 2, "a probe"
    spent = "SELECT sum(attempts) FROM webhook_events WHERE event_type = 'call.completed'"
    assert db.execute(spent).fetchone() == (20,)

    down = False
    make_due(db)
    db.execute("UPDATE webhook_breakers SET probe_at = now()")
    work(concurrency=1)
    handled = "SELECT count(*) FROM webhook_events WHERE outcome = 'handled' AND event_type = 'call.completed'"
    assert db.execute(handled).fetchone() == (30,)
    assert db.execute(open_breakers).fetchall() == []


def test_of_all_workers_one_makes_the_probe(db, called):
    on("call.completed", outside=True)(lambda event: None)
    (handler,) = registry.HANDLERS
    db.execute(
        "INSERT INTO webhook_breakers (handler, failures, probe_at, last_error) VALUES (%s, 20, '2026-01-01', 'down')",
        [handler.name],
    )
    ours, theirs = Breakers(), Breakers()
    for breakers in (ours, theirs):
        breakers.read(db)

    assert [breakers.take_probe(db) for breakers in (ours, theirs)] == [handler, None]


def test_waits_that_were_asked_for_open_no_breaker(db, called, work):
    on("call.completed", outside=True)(lambda event: RetryLater(600))
    for _ in range(25):
        add(db, "call.completed")

    work(concurrency=1)

    assert db.execute("SELECT count(*) FROM webhook_breakers").fetchone() == (0,)


def test_failures_of_an_events_other_handlers_open_no_breaker(db, called, work):
    on("call.completed", outside=True)(lambda event: None)
    on("call.completed")(lambda event, conn: 1 / 0)
    for _ in range(25):
        add(db, "call.completed")

    work(concurrency=1)

    assert db.execute("SELECT count(*) FROM webhook_breakers").fetchone() == (0,)


def test_a_success_between_failures_keeps_the_breaker_closed(db, called, work):
    @on("call.completed", outside=True)
    def push(event):
        if event.id % 15:
            raise ConnectionError

    for _ in range(60):
        add(db, "call.completed")

    work(concurrency=1)

    assert db.execute("SELECT count(*) FROM webhook_breakers").fetchone() == (0,)
