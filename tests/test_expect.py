"""Events that are expected: fulfilled, armed anew, or overdue, and what an overdue one is in the inbox."""

from contextlib import ExitStack
from datetime import timedelta
from threading import Barrier, Thread

import psycopg
import pytest

from processor import expect, fulfil, on, registry, settle
from processor.expect import raise_overdue
from processor.session import Session
from tests.inbox import add, look, process
from tests.processes import DEADLINE, processor, wait_for

HOUR = timedelta(hours=1)
NOW = timedelta(0)
FUNCTION = """
    CREATE TABLE app.orders (id text PRIMARY KEY, paid boolean NOT NULL DEFAULT false);
    CREATE FUNCTION app.orders_expect() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
    BEGIN
        IF NEW.paid THEN
            PERFORM public.webhook_fulfil('acme', 'order/' || NEW.id, 'order.unpaid');
        ELSE
            PERFORM public.webhook_expect('acme', 'order/' || NEW.id, 'order.unpaid', interval '1 day', '{"no": 1}');
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER orders_expect AFTER INSERT OR UPDATE ON app.orders
        FOR EACH ROW EXECUTE FUNCTION app.orders_expect();
"""


@pytest.fixture
def handlers(monkeypatch):
    monkeypatch.setattr(registry, "HANDLERS", [])


def arm(conn, subject="call/1", within=NOW, **options):
    expect(conn, subject, within=within, otherwise="call.timeout", app_id="default", **options)


def armed(conn):
    return conn.execute("SELECT subject, due_at - armed_at FROM webhook_expectations ORDER BY subject").fetchall()


def raised(conn):
    """Return the subjects of the overdue events, in the order of their ids."""
    rows = conn.execute("SELECT subject FROM webhook_events WHERE event_type = 'call.timeout' ORDER BY id")
    return [subject for (subject,) in rows]


def test_what_is_expected_is_overdue_once_its_time_is_over(db):
    arm(db, "call/1", HOUR)
    arm(db, "call/2", NOW)

    raise_overdue(db)

    assert raised(db) == ["call/2"]
    assert armed(db) == [("call/1", HOUR)]


def test_what_is_fulfilled_is_not_overdue(db):
    arm(db)

    fulfil(db, "call/1", "call.timeout", app_id="default")
    raise_overdue(db)

    assert raised(db) == []


def test_fulfilling_one_thing_fulfils_nothing_else(db):
    arm(db)

    fulfil(db, "call/2", "call.timeout", app_id="default")
    fulfil(db, "call/1", "call.silent", app_id="default")
    fulfil(db, "call/1", "call.timeout", app_id="other")
    raise_overdue(db)

    assert raised(db) == ["call/1"]


def test_expected_again_it_counts_from_then_on(db):
    arm(db, within=NOW, payload={"try": 1})

    arm(db, within=HOUR, payload={"try": 2})
    raise_overdue(db)

    assert raised(db) == []
    assert armed(db) == [("call/1", HOUR)]
    assert db.execute("SELECT payload FROM webhook_expectations").fetchall() == [({"try": 2},)]


def test_an_overdue_event_says_since_when_it_was_expected_and_for_how_long(db):
    arm(db, within=timedelta(minutes=10), payload={"reminder": "rem_1"})
    moved = "UPDATE webhook_expectations SET armed_at = %s, due_at = %s"
    db.execute(moved, ["2026-11-20 12:00 UTC", "2026-11-20 12:10 UTC"])
    db.execute("SET timezone TO 'UTC'")

    raise_overdue(db)

    columns = "app_id, source, provider, event_id, occurred_at = '2026-11-20 12:10 UTC', payload"
    assert look(db, 1, columns) == (
        "default", "inbox", "inbox", "call.timeout:default:overdue-1", True,
        {"reminder": "rem_1", "expected_within_seconds": 600, "armed_at": "2026-11-20T12:00:00+00:00"},
    )  # fmt: skip
    assert look(db, 1, "convert_from(body, 'UTF8')::jsonb = payload, body_sha256 = sha256(body)") == (True, True)


def test_each_arming_can_be_overdue(db, handlers):
    on("call.timeout")(lambda event, conn: None)
    for _ in range(2):
        arm(db)
        process(db)

    assert raised(db) == ["call/1", "call/1"]


def test_several_workers_raise_what_is_overdue_once(db, dsn):
    db.execute("SELECT webhook_expect('default', 'call/' || n, 'call.timeout', '0') FROM generate_series(1, 1500) AS n")
    together = Barrier(4, timeout=30)

    def work(conn):
        for _ in range(3):
            together.wait()
            raise_overdue(conn)

    with ExitStack() as opened:
        conns = [opened.enter_context(psycopg.connect(dsn, autocommit=True)) for _ in range(4)]
        workers = [Thread(target=work, args=[conn]) for conn in conns]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    assert len(raised(db)) == len(set(raised(db))) == 1500
    assert armed(db) == []


def test_who_waits_is_woken_by_what_is_overdue(db, dsn):
    with psycopg.connect(dsn, autocommit=True) as listener:
        listener.execute("LISTEN webhook_events")
        arm(db)
        arm(db, "call/2")

        raise_overdue(db)

        assert [told.payload for told in listener.notifies(timeout=DEADLINE, stop_after=1)] == [""]


@pytest.mark.parametrize("waits", [{}, {"last_error": "x", "attempts": 3, "next_attempt_at": "2100-01-01"}])
def test_a_backlog_is_not_silence(db, waits):
    add(db, subject="call/1", **waits)
    arm(db)

    raise_overdue(db)

    assert raised(db) == []
    assert armed(db) == [("call/1", NOW)]


@pytest.mark.parametrize(
    "other",
    [
        {"subject": "call/2"},
        {"subject": "call/1", "app_id": "other"},
        {"subject": "call/1", "dead_at": "2026-01-01", "last_error": "x"},
        {"subject": "call/1", "processed_at": "2026-01-01", "outcome": "handled"},
    ],
    ids=["another subject's", "another tenant's", "dead", "processed"],
)
def test_an_event_that_will_not_be_handled_as_the_subjects_breaks_no_silence(db, other):
    add(db, **other)
    arm(db)

    raise_overdue(db)

    assert raised(db) == ["call/1"]


def test_what_a_handler_is_just_fulfilling_is_not_overdue_meanwhile(db, dsn):
    arm(db)
    with psycopg.connect(dsn) as handler:
        fulfil(handler, "call/1", "call.timeout", app_id="default")
        db.execute("SET lock_timeout = '10s'")  # rather than wait for good

        raise_overdue(db)

    assert raised(db) == []


def test_process_once_raises_what_is_overdue_and_handles_it(db, handlers):
    handled = []
    on("call.timeout")(lambda event, conn: handled.append(event.subject))
    arm(db)

    totals = process(db)

    assert (totals.handled, handled) == (1, ["call/1"])


def test_a_worker_looks_for_what_is_overdue_once_a_second(db, monkeypatch):
    monkeypatch.setattr(settle, "OVERDUE_SECONDS", 600)  # however slow the machine
    settling, session = settle.Settling(), Session(db, db)
    arm(db, "call/1")
    settling.settle(session)
    arm(db, "call/2")
    settling.settle(session)
    assert raised(db) == ["call/1"]

    settling.overdue_at -= 600
    settling.settle(session)

    assert raised(db) == ["call/1", "call/2"]


def test_the_real_event_in_the_inbox_beats_the_overdue_one(db, handlers):
    handled = []
    on("call.timeout")(lambda event, conn: handled.append(event.event_type))

    @on("call.completed")
    def complete(event, conn):
        handled.append(event.event_type)
        fulfil(conn, event.subject, "call.timeout", app_id=event.app_id)

    arm(db)
    add(db, "call.completed", subject="call/1")
    process(db)
    process(db)

    assert handled == ["call.completed"]


def test_an_overdue_event_comes_behind_the_earlier_ones_of_its_subject(db, handlers):
    handled = []

    @on("call.ringing", "call.timeout")
    def handle(event, conn):
        handled.append(event.event_type)

    earlier = add(db, subject="call/1", dead_at="2026-01-01", last_error="x")
    arm(db)
    raise_overdue(db)
    db.execute("UPDATE webhook_events SET processed_at = NULL WHERE id = %s", [earlier])
    process(db)

    assert handled == ["call.ringing", "call.timeout"]


def test_what_a_failing_handler_expects_or_fulfils_is_rolled_back_with_it(db, handlers):
    @on("call.ringing")
    def fail(event, conn):
        expect(conn, "call/2", within=NOW, otherwise="call.timeout", app_id=event.app_id)
        fulfil(conn, "call/1", "call.timeout", app_id=event.app_id)
        raise ConnectionError("the crm is down")

    arm(db, "call/1", HOUR)
    add(db, subject="call/3")
    process(db)

    assert armed(db) == [("call/1", HOUR)]


@pytest.mark.parametrize(
    ("subject", "otherwise", "within"),
    [
        ("", "call.timeout", HOUR),
        ("call/1", "", HOUR),
        ("call/1", "t" * 200, HOUR),
        ("call/1", "call.timeout", -HOUR),
        ("call/1", "call.timeout", timedelta(days=365 * 300)),
    ],
)
def test_what_could_not_be_stored_as_an_event_is_refused_where_it_is_expected(db, subject, otherwise, within):
    with pytest.raises(psycopg.errors.CheckViolation):
        expect(db, subject, within=within, otherwise=otherwise, app_id="default")


def test_a_trigger_expects_and_fulfils_under_any_search_path(fresh_dsn):
    with psycopg.connect(fresh_dsn, autocommit=True) as conn:
        conn.execute("CREATE SCHEMA app")
        conn.execute(FUNCTION)

        conn.execute("INSERT INTO app.orders VALUES ('1'), ('2')")
        conn.execute("UPDATE app.orders SET paid = true WHERE id = '1'")

        assert conn.execute("SELECT app_id, subject, event_type, payload FROM webhook_expectations").fetchall() == [
            ("acme", "order/2", "order.unpaid", {"no": 1})
        ]


def test_a_running_processor_raises_what_is_overdue_and_handles_it(db, dsn):
    arm(db, payload={"CallSid": "CA1"})

    with processor(dsn, "--interval", "0.2", "--handlers", "tests.order_handlers"):
        wait_for(lambda: db.execute("SELECT FROM webhook_events WHERE processed_at IS NOT NULL").fetchone() is not None)

    assert raised(db) == ["call/1"]
