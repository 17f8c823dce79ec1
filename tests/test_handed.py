"""A savepoint that comes with a handler's first statement, to the same effect as one of its own."""

import random
import time
from collections.abc import Generator
from contextlib import suppress

import psycopg
import pytest
from psycopg.rows import dict_row

from processor import loop, on, plain
from processor.loop import Processor
from processor.outside import Outside
from tests.handler_fixtures import effects, no_handlers, work, write
from tests.inbox import add, look, process
from tests.processes import DEADLINE

__all__ = ["effects", "no_handlers", "work"]

EVENTS, ACTIONS = 20, 3


@pytest.fixture
def trips(db, dsn, tmp_path):
    """Return the round trips of a batch of so many events: how often the server was done with what it was sent."""

    def count(events):
        for _ in range(events):
            add(db)
        worker = Processor(lambda: psycopg.connect(dsn, autocommit=True))
        session = worker._open()
        with (tmp_path / "conn").open("wb") as conn, (tmp_path / "control").open("wb") as control:
            session.conn.pgconn.trace(conn.fileno())
            assert session.control
            session.control.pgconn.trace(control.fileno())
            assert len(worker.batch(session, events).outcomes) == events
            session.close()
        return sum((tmp_path / name).read_text().count("ReadyForQuery") for name in ("conn", "control"))

    return count


def test_an_event_whose_handler_sends_nothing_costs_no_round_trip(trips):
    on("call.ringing")(lambda event, conn: None)

    # The claim, what is about to run, the events, the end.
    assert (trips(1), trips(11)) == (4, 4)


def test_an_event_whose_handler_sends_one_plain_statement_costs_one_round_trip(trips, effects):
    on("call.ringing")(write)

    # And once one more, in which the statement is prepared.
    assert (trips(1), trips(4), trips(11)) == (5, 8, 16)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT 1", True),
        (b"  insert into effects values (1, 'a');  ", True),
        ("-- as ever\nUPDATE effects SET note = ''", True),
        ("WITH gone AS (DELETE FROM effects RETURNING event) SELECT event FROM gone", True),
        ("MERGE INTO effects USING a ON true WHEN MATCHED THEN DO NOTHING; -- done", True),
        ("SELECT 1; COMMIT", False),
        ("SELECT 1 INTO TEMP found", False),
        ("SELECT set_config('search_path', 'elsewhere', false)", False),
        ("SELECT PG_ADVISORY_LOCK(1)", False),
        ("SET search_path = elsewhere", False),
        ("SAVEPOINT event", False),
        ("selected", False),
        ("/* SELECT */ COMMIT", False),
        ("", False),
        (psycopg.sql.SQL("SELECT 1"), False),
    ],
)
def test_only_a_single_statement_on_rows_is_plain(query, expected):
    assert plain.is_plain(query) is expected


def insert(conn, event):
    return conn.execute("INSERT INTO effects VALUES (%s, 'insert') RETURNING note", [event]).fetchone()


def insert_without_parameters(conn, event):
    return conn.execute(f"INSERT INTO effects VALUES ({event}, 'text')").rowcount


def read(conn, event):
    return conn.execute("SELECT count(*) FROM effects WHERE event = %s", [event]).fetchall()


def read_as_dicts(conn, event):
    return conn.cursor(row_factory=dict_row).execute("SELECT %s::int AS one", [1]).fetchone()


def read_binary(conn, event):
    return conn.execute("SELECT %b::float8, '\\x00ff'::bytea", [1.5], binary=True).fetchone()


def prepare(conn, event):
    return conn.execute("INSERT INTO effects VALUES (%s, 'prepared')", [event], prepare=True).statusmessage


def fail(conn, event):
    return conn.execute("SELECT 1 / %s::int", [0])


def fail_to_parse(conn, event):
    return conn.execute("SELECT nothing FROM effects WHERE event = %s", [event])


def fail_in_a_transaction_of_its_own(conn, event):
    try:
        with conn.transaction():
            insert(conn, event)
            fail(conn, event)
    except psycopg.Error as error:
        return type(error)


def insert_many(conn, event):
    conn.cursor().executemany("INSERT INTO effects VALUES (%s, 'many')", [[event], [event]])


def copy(conn, event):
    with conn.cursor().copy("COPY effects FROM STDIN") as rows:
        rows.write_row([event, "copied"])


def insert_in_a_pipeline(conn, event):
    with conn.pipeline():
        conn.execute("INSERT INTO effects VALUES (%s, 'pipeline')", [event])
        return conn.execute("SELECT 2").fetchone()


def stream(conn, event):
    return list(conn.cursor().stream("SELECT generate_series(1, %s)", [3]))


def read_from_the_server(conn, event):
    with conn.cursor("there") as cursor:
        return cursor.execute("SELECT note FROM effects WHERE event = %s", [event]).fetchall()


def bind_here(conn, event):
    return psycopg.ClientCursor(conn).execute("INSERT INTO effects VALUES (%s, %s)", [event, "bound"]).rowcount


def send_two(conn, event):
    return conn.execute("SELECT 1; SELECT 2").nextset()


def give_up(conn, event):
    raise ValueError


KINDS = [
    insert, insert_without_parameters, read, read_as_dicts, read_binary, prepare, fail, fail_to_parse, insert_many,
    copy, fail_in_a_transaction_of_its_own, insert_in_a_pipeline, stream, read_from_the_server, bind_here,
    send_two, give_up,
]  # fmt: skip
PLAIN_KINDS = [insert, insert_without_parameters, insert, read, read_as_dicts, fail, give_up]


@pytest.mark.parametrize("seed", range(8))
def test_whatever_handlers_send_it_is_as_with_a_savepoint_of_its_own(db, dsn, effects, monkeypatch, seed):
    monkeypatch.setattr(loop, "APART", 0)  # so that many of them share one in spite of the failures
    found = []

    @on("call.ringing", max_attempts=1)
    def handle(event, conn):
        noted: list[object] = []
        seen[event.id] = noted  # at its last run, where it was undone with another
        for action in plans[event.id]:
            try:
                noted.append((action.__name__, action(conn, event.id), conn.info.transaction_status))
            except psycopg.Error as error:
                noted.append((type(error), str(error), conn.info.transaction_status))
                if event.id in hiding:
                    return
                raise

    for tried in (True, False):
        chance = random.Random(seed)
        kinds = KINDS if seed % 2 else PLAIN_KINDS
        plans = {event: chance.choices(kinds, k=chance.randrange(ACTIONS + 1)) for event in range(1, EVENTS + 1)}
        hiding = {event for event in plans if chance.random() < 0.3}
        seen: dict[int, list[object]] = {}
        monkeypatch.setattr(plain, "TRIED", tried)
        db.execute("TRUNCATE effects, webhook_events RESTART IDENTITY CASCADE")
        for _ in range(EVENTS):
            add(db)
        Processor(lambda: psycopg.connect(dsn, autocommit=True), batch_size=7).run(0.05, once=True)
        ended = db.execute(
            "SELECT id, outcome, attempts, last_error, crashes FROM webhook_events ORDER BY id"
        ).fetchall()
        found.append((seen, effects(), ended))

    assert found[0] == found[1]


@pytest.mark.parametrize("tried", [True, False])
def test_a_session_that_ends_at_a_handlers_first_statement_is_its_events_failure(db, effects, work, monkeypatch, tried):
    monkeypatch.setattr(plain, "TRIED", tried)
    db.execute("CREATE FUNCTION end_it() RETURNS boolean RETURN pg_terminate_backend(pg_backend_pid())")
    try:

        @on("call.ringing")
        def handle(event, conn):
            write(event, conn) if event.id != bad else conn.execute("SELECT end_it(), %s::int", [1])

        first, bad, last = add(db), add(db), add(db)

        work()

        assert effects() == [(first, "done"), (last, "done")]
        assert look(db, bad, "attempts, crashes, left(last_error, 13)") == (1, 0, "AdminShutdown")
    finally:
        db.execute("DROP FUNCTION end_it")


def test_what_a_function_sets_is_gone_with_the_batch(db, dsn):
    db.execute(
        "CREATE FUNCTION move() RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET search_path = pg_catalog, public; END $$"
    )
    paths = []
    try:

        @on("call.ringing")
        def handle(event, conn):
            paths.append(conn.execute("SELECT current_setting('search_path'), %s::int", [1]).fetchone()[0])
            conn.execute("SELECT move()")

        for _ in range(2):
            add(db)

        Processor(lambda: psycopg.connect(dsn, autocommit=True), batch_size=1).run(0.05, once=True)

        assert paths[1] == paths[0] != "pg_catalog, public"
    finally:
        db.execute("DROP FUNCTION move")


def test_what_a_function_sets_does_not_lead_the_batchs_end_astray(db, work):
    db.execute("CREATE FUNCTION move() RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET search_path = elsewhere; END $$")
    try:
        on("call.ringing")(lambda event, conn: conn.execute("SELECT move()"))
        event = add(db)

        work()

        assert look(db, event, "outcome") == ("handled",)
    finally:
        db.execute("DROP FUNCTION move")


def test_a_handler_that_fails_below_the_connection_undoes_nobody_elses_writes(db, effects, work):
    @on("call.ringing")
    def handle(event, conn):
        if event.id == bad:
            conn.pgconn.exec_(b"SELECT 1 / 0")
        else:
            write(event, conn)

    first, bad, last = add(db), add(db), add(db)

    work()

    assert effects() == [(first, "done"), (last, "done")]
    assert look(db, bad, "outcome, attempts") == (None, 1)


PREPARED = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'SELECT * FROM effects%%'"


@pytest.fixture
def prepared(db, effects):
    """A list of what is prepared, as each of eight events will find it that send the same."""
    counts = []

    @on("call.ringing")
    def handle(event, conn):
        conn.execute("SELECT * FROM effects WHERE event = %s", [event.id])
        counts.append(conn.execute(PREPARED).fetchone()[0])

    for _ in range(8):
        add(db)
    return counts


def test_what_handlers_send_often_is_prepared(prepared, work):
    work()

    assert (prepared[0], prepared[-1]) == (0, 1)


def test_a_migration_that_outdates_what_was_prepared_costs_no_attempt(db, dsn, effects):
    on("call.ringing")(lambda event, conn: conn.execute("SELECT * FROM effects WHERE event = %s", [event.id]))
    worker = Processor(lambda: psycopg.connect(dsn, autocommit=True))
    session = worker._open()
    for _ in range(10):
        add(db)
    worker.batch(session, 10)
    db.execute("ALTER TABLE effects ADD COLUMN more text")
    event = add(db)

    worker.batch(session, 1)

    assert session.conn.execute(PREPARED).fetchone() == (0,)
    session.close()
    assert look(db, event, "outcome, attempts, last_error") == ("handled", 1, None)


def test_what_is_prepared_after_an_event_failed_lasts(db, effects, work):
    @on("call.ringing")
    def handle(event, conn):
        conn.cursor().executemany("INSERT INTO effects VALUES (%s, 'done')", [[event.id]])  # which prepares it at once
        if event.id == events[1]:
            raise ZeroDivisionError

    events = [add(db) for _ in range(4)]

    work()

    assert effects() == [(event, "done") for event in events if event != events[1]]


def test_on_a_connection_that_others_use_as_well_nothing_is_prepared(db, prepared):
    process(db)

    assert prepared == [0] * 8


KEPT: list[Generator[object, None, None]] = []


def end_what_was_kept():
    """Here, and not in whichever test Python comes to it: psycopg may say that their connection is gone."""
    while KEPT:
        with suppress(psycopg.Error):
            KEPT.pop().close()


def leave_a_result_half_read(conn):
    rows = conn.cursor().stream("SELECT generate_series(1, 100000)")
    next(rows)
    KEPT.append(rows)


def leave_a_copy_open(conn):
    copy = conn.cursor().copy("COPY effects FROM STDIN")
    copy.__enter__()
    KEPT.append(copy.gen)


def leave_a_pipeline_open(conn):
    pipeline = conn.pipeline()
    pipeline.__enter__()
    KEPT.append(pipeline.gen)
    conn.execute("INSERT INTO effects VALUES (0, 'pipeline')")


def begin_another_below_psycopg(conn):
    conn.pgconn.exec_(b"ROLLBACK")
    conn.pgconn.exec_(b"BEGIN")


def name_a_savepoint_as_we_might(conn):
    conn.execute("INSERT INTO effects VALUES (0, 'before')")
    conn.execute("SAVEPOINT event")
    raise ValueError


@pytest.mark.parametrize(
    "misdeed",
    [
        leave_a_result_half_read,
        leave_a_copy_open,
        leave_a_pipeline_open,
        begin_another_below_psycopg,
        name_a_savepoint_as_we_might,
    ],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_a_handler_leaves_of_its_connection_is_its_own_events_failure(db, dsn, effects, misdeed, place):
    @on("call.ringing")
    def handle(event, conn):
        misdeed(conn) if event.id == ids[place] else write(event, conn)

    ids = [add(db) for _ in range(3)]
    worker = Processor(lambda: psycopg.connect(dsn, autocommit=True))
    try:
        for _ in ids * 2:  # batches: the one that is refused, and each event by itself
            worker._step(3, once=False)
    finally:
        worker._close()
        end_what_was_kept()

    good = [event for event in ids if event != ids[place]]
    assert effects() == [(event, "done") for event in good]
    assert [look(db, event, "outcome, attempts, crashes") for event in good] == [("handled", 1, 0)] * 2
    assert look(db, ids[place], "outcome, attempts, crashes") == (None, 1, 0)


def test_what_an_outside_handlers_writes_leave_half_read_is_its_own_events_failure(db, dsn):
    on("call.ringing", outside=True)(lambda event: leave_a_result_half_read)
    event = add(db)
    worker = Outside(lambda: psycopg.connect(dsn, autocommit=True))
    until = time.monotonic() + DEADLINE
    try:
        while look(db, event, "last_error") == (None,) and time.monotonic() < until:
            worker._step(1, once=False)
    finally:
        worker._close()
        end_what_was_kept()

    assert look(db, event, "outcome, attempts, left(last_error, 12)") == (None, 1, "RuntimeError")


@pytest.mark.parametrize(
    "body",
    [
        "CREATE TEMP TABLE found ON COMMIT DROP AS SELECT 1 AS one",
        "DECLARE found CURSOR FOR SELECT 1",
        "SET ROLE pg_monitor",
        "SET search_path = nowhere",
    ],
)
def test_what_a_function_leaves_costs_the_next_event_no_attempt(db, effects, work, body):
    db.execute(f"CREATE FUNCTION leave() RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE '{body}'; END $$")
    try:

        @on("call.ringing")
        def handle(event, conn):
            write(event, conn)
            conn.execute("SELECT leave()")

        events = [add(db) for _ in range(3)]

        work()

        assert effects() == [(event, "done") for event in events]
        assert [look(db, event, "outcome, attempts, last_error") for event in events] == [("handled", 1, None)] * 3
    finally:
        db.execute("DROP FUNCTION leave")
