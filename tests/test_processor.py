"""What becomes of an event at one attempt. Results are read from the table."""

import logging
import threading

import psycopg
import pytest
from pydantic import BaseModel

from processor import Discard, RetryLater, on, registry
from processor.loop import Processor
from tests.handler_fixtures import effects, no_handlers, write
from tests.inbox import add, look, make_due, process
from tests.processes import wait_for

__all__ = ["effects", "no_handlers"]

COUNT = "SELECT count(*) FROM effects"


def test_a_handler_that_returns_has_its_writes_and_processed_at(db, effects):
    on("call.ringing")(write)
    event = add(db)

    process(db)

    assert look(db, event, "outcome, attempts, processed_at IS NOT NULL, last_error") == ("handled", 1, True, None)
    assert effects() == [(event, "done")]


def test_one_failing_event_of_a_batch_leaves_the_others_handled(db, effects):
    @on("call.ringing")
    def handle(event, conn):
        write(event, conn)
        if event.id == bad:
            raise ConnectionError("crm is down")

    first, bad, last = add(db), add(db), add(db)

    totals = process(db)

    assert (totals.handled, totals.retry) == (2, 1)
    assert (totals.processed, totals.failed) == (2, 1)
    assert effects() == [(first, "done"), (last, "done")]
    assert look(db, bad, "processed_at, attempts, last_error") == (None, 1, "ConnectionError: crm is down")


def test_a_failed_event_waits_5_s_then_10_s_give_or_take_a_tenth(db):
    on("call.ringing")(lambda event, conn: 1 / 0)
    event = add(db)
    waits: list[float] = []

    for _ in range(2):
        make_due(db)
        process(db)
        waits += look(db, event, "extract(epoch FROM next_attempt_at - clock_timestamp())::float8")

    assert 4.3 < waits[0] < 5.6
    assert 8.8 < waits[1] < 11.1


def test_an_event_is_dead_after_as_many_attempts_as_its_handler_has(db):
    on("call.ringing", max_attempts=2)(lambda event, conn: 1 / 0)
    event = add(db)

    for _ in range(4):
        make_due(db)
        process(db)

    assert look(db, event, "attempts, dead_at IS NOT NULL, last_error") == (
        2,
        True,
        "ZeroDivisionError: division by zero",
    )


def test_the_default_is_twelve_attempts(db):
    on("call.ringing")(lambda event, conn: 1 / 0)
    event = add(db, attempts=10)

    process(db)
    assert look(db, event, "dead_at") == (None,)

    make_due(db)
    process(db)
    assert look(db, event, "attempts, dead_at IS NOT NULL") == (12, True)


@pytest.mark.parametrize("how", ["raise", "return"])
def test_retry_later_waits_as_long_as_it_says_and_spends_no_attempt(db, effects, how):
    @on("call.ringing")
    def handle(event, conn):
        write(event, conn)
        if how == "return":
            return RetryLater(600)
        raise RetryLater(600)

    event = add(db)

    process(db)

    wait = "round(extract(epoch FROM next_attempt_at - clock_timestamp()) / 10)::int"
    assert look(db, event, f"processed_at, dead_at, attempts, {wait}") == (None, None, 0, 60)
    assert effects() == []


def test_retry_later_is_logged_as_an_answer_and_not_as_a_failure(db, caplog):
    @on("call.ringing")
    def handle(event, conn):
        raise RetryLater(600)

    event = add(db)

    with caplog.at_level(logging.INFO, "processor"):
        process(db)

    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", f"event deferred id={event} type=call.ringing due_in=600s")
    ]


def test_discard_makes_a_dead_letter_with_its_reason_and_no_writes(db, effects):
    @on("call.ringing")
    def handle(event, conn):
        write(event, conn)
        raise Discard("no such call")

    event = add(db)

    process(db)

    assert look(db, event, "processed_at, dead_at IS NOT NULL, last_error") == (None, True, "Discard: no such call")
    assert db.execute("SELECT reason FROM dead_letters").fetchall() == [("Discard: no such call",)]
    assert effects() == []


@pytest.mark.parametrize("how", ["processed_at = now()", "dead_at = now(), last_error = 'by hand'"])
def test_an_event_that_its_handler_closed_itself_stays_as_it_is(db, how):
    @on("call.ringing")
    def handle(event, conn):
        conn.execute(f"UPDATE webhook_events SET {how} WHERE id = {event.id}".encode())

    event = add(db)

    process(db)

    assert look(db, event, "outcome IS DISTINCT FROM 'handled', attempts") == (True, 0)


def test_several_handlers_of_a_type_run_in_one_transaction(db, effects):
    on("call.ringing")(write)

    @on("call.ringing")
    def second(event, conn):
        if event.attempt == 1:
            raise ConnectionError
        write(event, conn, "second")

    event = add(db)

    process(db)
    assert effects() == []

    make_due(db)
    process(db)
    assert effects() == [(event, "done"), (event, "second")]


def test_a_handler_for_a_provider_or_source_gets_no_other_events(db, effects):
    on("call.ringing", provider="vapi")(lambda event, conn: write(event, conn, "vapi"))
    on("call.ringing", source="eu")(lambda event, conn: write(event, conn, "eu"))
    neither, vapi, eu = add(db), add(db, provider="vapi"), add(db, source="eu")

    process(db)

    assert effects() == [(vapi, "vapi"), (eu, "eu")]
    assert look(db, neither, "outcome") == ("no_handler",)


def test_an_unknown_type_is_processed_as_no_handler_and_logged_once(db, caplog):
    first, second = add(db, "call.teleported"), add(db, "call.teleported")

    process(db)

    assert look(db, first, "outcome, attempts") == look(db, second, "outcome, attempts") == ("no_handler", 0)
    assert [record.message for record in caplog.records] == [
        f"event has no handler id={first} type=call.teleported provider_type=; add one with @on and replay"
    ]


def test_what_is_kept_of_an_error_has_no_payload_in_it(db):
    class Call(BaseModel):
        duration: int

    on("call.ringing")(lambda event, conn: Call.model_validate(event.payload))
    event = add(db, payload={"duration": "call +15555550100"})

    process(db)

    (error,) = look(db, event, "last_error")
    assert error.startswith("ValidationError: duration: Input should be a valid integer")
    assert "5555550100" not in error


def test_the_longest_due_come_first_and_no_more_than_asked(db):
    seen = []
    on("call.ringing")(lambda event, conn: seen.append(event.id))
    late = add(db, subject="call/1")
    early = add(db, subject="call/2")
    db.execute("UPDATE webhook_events SET next_attempt_at = now() - interval '1 hour' WHERE id = %s", [early])
    add(db)

    totals = process(db, batch_size=1, max_events=2)

    assert seen == [early, late]
    assert totals.claimed == 2


def test_an_event_not_due_yet_is_left_alone(db):
    event = add(db)
    db.execute("UPDATE webhook_events SET next_attempt_at = now() + interval '1 second'")

    assert process(db).claimed == 0
    assert look(db, event, "processed_at") == (None,)


def test_a_row_that_commits_late_with_a_lower_id_is_not_missed(db, dsn):
    seen = []
    on("call.ringing")(lambda event, conn: seen.append(event.id))
    with psycopg.connect(dsn) as slow:
        low = add(slow, event_id="low")
        high = add(db, event_id="high")
        process(db)
        assert seen == [high]

        slow.commit()
        process(db)

    assert seen == [high, low]


def test_two_workers_take_disjoint_events(db, dsn):
    seen, both_claimed = [], threading.Barrier(2, timeout=10)

    @on("call.ringing")
    def handle(event, conn):
        seen.append(event.id)
        both_claimed.wait()

    events = [add(db, subject="call/1"), add(db, subject="call/2")]

    def work():
        with psycopg.connect(dsn, autocommit=True) as conn:
            process(conn, batch_size=1, max_events=1)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert sorted(seen) == events


def test_stopping_lets_the_event_in_hand_finish_and_frees_the_rest(db, dsn):
    worker = Processor(lambda: psycopg.connect(dsn, autocommit=True))
    on("call.ringing")(lambda event, conn: worker.stopping.set())
    first, second = add(db), add(db)

    worker.run(5)

    assert look(db, first, "outcome, attempts") == ("handled", 1)
    assert look(db, second, "outcome, attempts") == (None, 0)


def test_a_replayed_event_that_still_does_not_parse_is_dead_again(db):
    event = add(db, "unparseable", payload=None, parse_error="expected JSON", last_error="expected JSON")
    db.execute("UPDATE webhook_events SET payload = NULL, dead_at = now() WHERE id = %s", [event])
    db.execute("UPDATE webhook_events SET processed_at = NULL WHERE id = %s", [event])

    process(db)

    assert look(db, event, "processed_at, dead_at IS NOT NULL, last_error") == (None, True, "expected JSON")


def test_a_payload_that_python_can_not_read_fails_nobody_else(db):
    seen = []
    on("call.ringing")(lambda event, conn: seen.append(event.payload))
    add(db, payload={"n": 1})
    long, deep = add(db), add(db)
    db.execute("UPDATE webhook_events SET payload = %s::jsonb WHERE id = %s", ['{"n": 1' + "0" * 5000 + "}", long])
    db.execute("UPDATE webhook_events SET payload = %s::jsonb WHERE id = %s", ["[" * 5000 + "]" * 5000, deep])

    process(db)

    # How deep JSON may be nested is the interpreter's: None where it is too deep.
    assert seen[:2] == [{"n": 1}, {"n": 10**5000}]
    assert db.execute("SELECT count(*) FROM webhook_events WHERE outcome = 'handled'").fetchone() == (3,)


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan"), 1e9])
def test_retry_later_takes_a_time_that_comes(seconds):
    with pytest.raises(ValueError, match="RetryLater: expected seconds"):
        RetryLater(seconds)


def test_a_value_that_the_database_refused_is_not_kept(db):
    on("call.ringing")(lambda event, conn: conn.execute("SELECT %s::uuid", ["+15555550100"]))
    event = add(db)

    process(db)

    assert look(db, event, "last_error") == ("InvalidTextRepresentation: 22P02",)


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ("payload = 'null'", "handled"),
        ("payload = '[{\"CallSid\": 1}]'", "handled"),
        ("payload = '1e5000', headers = '{\"a\": [null]}', body = '\\xff', method = '', url = E'\\x1b'", "handled"),
        ("payload = NULL, parse_error = 'by hand'", "handled"),
        ("provider = 'nobody', app_id = '', subject = repeat('/', 2000)", "handled"),
        ("attempts = 2147483647, replays = 2147483647", "handled"),
        ("suspect = true, parked = true, yields_at = 'infinity'", "handled"),
        ("received_at = '1970-01-01 UTC', next_attempt_at = '1970-01-01 UTC', last_error = 'x'", "handled"),
        ("event_type = '__class__'", "no_handler"),
        ("event_type = E'\\x1b[2J\\r\\nINFO' || repeat('x', 240)", "no_handler"),
        ("processed_at = now()", "skipped"),
        ("next_attempt_at = '2199-12-31 UTC'", None),
    ],
)
def test_a_row_written_by_hand_holds_up_nobody(db, change, outcome):
    on("call.ringing")(lambda event, conn: None)
    event, other = add(db), add(db)
    db.execute(f"UPDATE webhook_events SET {change} WHERE id = %s".encode(), [event])

    process(db)

    assert look(db, event, "outcome") == (outcome,)
    assert look(db, other, "outcome") == ("handled",)


def test_attempts_that_were_written_by_hand_up_to_the_columns_end_are_the_last(db):
    on("call.ringing")(lambda event, conn: 1 / 0)
    event = add(db, attempts=2**31 - 1)

    process(db)

    assert look(db, event, "attempts, dead_at IS NOT NULL") == (2**31 - 1, True)


def test_a_database_that_refuses_to_write_is_waited_for(db, dsn, caplog):
    on("call.ringing")(lambda event, conn: None)
    event = add(db)
    connections: list[psycopg.Connection] = []

    def connect():
        conn = psycopg.connect(dsn, autocommit=True)
        if not connections:
            conn.execute("SET default_transaction_read_only = on")
        connections.append(conn)
        return conn

    Processor(connect).run(0.05, max_events=1)

    assert look(db, event, "outcome") == ("handled",)
    assert "database unavailable cause=ReadOnlySqlTransaction" in caplog.text
    assert "database recovered" in caplog.text


def test_a_database_that_was_not_migrated_is_waited_for_and_told_what_it_needs(empty_dsn, caplog):
    worker = Processor(lambda: psycopg.connect(empty_dsn, autocommit=True))
    thread = threading.Thread(target=worker.run, args=(0.05,))

    thread.start()
    wait_for(lambda: caplog.messages)
    worker.stopping.set()
    thread.join()

    (line,) = caplog.messages
    assert line.startswith("database unavailable cause=UndefinedTable")
    assert line.endswith("; run `processor db migrate`")


@pytest.mark.parametrize("zone", ["America/New_York", "Pacific/Kiritimati"])
def test_the_widest_times_that_a_row_can_hold_are_read_in_any_time_zone(db, zone):
    seen = []
    on("call.ringing")(lambda event, conn: seen.append(event.id))
    events = [add(db, occurred_at=time) for time in ("1970-01-01 UTC", "2200-01-01 UTC")]
    db.execute(f"SET timezone = '{zone}'".encode())

    process(db)

    assert seen == events


def test_async_and_misshapen_handlers_are_refused_where_they_are_registered():
    async def coroutine(event, conn): ...

    for function in (coroutine, lambda event: None):
        with pytest.raises(TypeError, match="@on: expected"):
            on("call.ringing")(function)


def test_an_events_handlers_may_take_as_long_as_all_of_them_together():
    for types, timeout in ((["call.ringing"], 5), (["call.ringing", "call.answered"], 7), (["call.answered"], None)):
        on(*types, timeout=timeout)(lambda event, conn: None)

    assert registry.longest(60) == 7 + 60


def test_a_handlers_module_that_does_not_import_or_registers_nothing_stops_the_start():
    for module in ("no_such_module", "tests.inbox"):
        with pytest.raises(registry.BadHandlers, match=module):
            registry.load([module])


def test_only_where_the_module_itself_is_missing_the_fault_says_where_to_have_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "needs_another.py").write_text("import no_such_module")
    (tmp_path / "bad_setting.py").write_text("raise ValueError('SETTING is not set; set it')")
    hint = "; name a module or package that is installed or in the current directory"

    for module, hinted in (("no_such_module.part", True), ("needs_another", False), ("bad_setting", False)):
        with pytest.raises(registry.BadHandlers) as fault:
            registry.load([module])
        assert str(fault.value).endswith(hint) is hinted
