"""What the door refuses is counted exactly, by source, status and cause, and logged at a bounded rate."""

import asyncio
import json
import re
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from receiver import cli, doctor, refusals
from receiver.refusals import KEYS_MAX, Refusals
from receiver.settings import MAX_BODY
from tests.http_receiver import Receiver, settings
from tests.processes import wait_for
from tests.receiver_fixtures import BASE_URL, SECRETS, SOURCES
from tests.signing import agent, reminder, twilio, vapi

FORGED = "agent: x-webhook-signature does not match the body"
PROOFS = ("x-webhook-signature", "x-vapi-secret", "x-twilio-signature", "user-agent")
LINE = re.compile(r"delivery refused source=(\S+) status=(\d+) cause=(.+?)(?: and (\d+) more in \d+ s)?")


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def receiving(tmp_path):
    """Function that runs a receiver on a database; at the end of its context, its last counts are in the table."""

    @contextmanager
    def run(dsn, every=3600.0, **options):
        configured = settings(tmp_path, dsn, SOURCES, BASE_URL=BASE_URL, **SECRETS)
        receiver = Receiver(configured, refusals_every=every, **options)
        try:
            yield receiver
        finally:
            receiver.stop()

    return run


def forge(receiver, number=1):
    assert reminder(number).to(receiver, x_webhook_signature="0").status == 401


def counts(conn):
    return {
        (source, status, cause): refused
        for source, status, cause, refused in conn.execute(
            "SELECT source, status, cause, refused FROM webhook_refusals"
        )
    }


def total(conn):
    return sum(counts(conn).values())


def told(caplog):
    """Return what each line about a refusal says: source, status, cause, and how many it stands for."""
    found = [match for match in map(LINE.fullmatch, caplog.messages) if match]
    return [
        (source, int(status), cause, 1 + int(more or 0)) for source, status, cause, more in map(re.Match.groups, found)
    ]


CAUSES = {
    ("agent", 401, "agent: no x-webhook-signature header"): lambda to: reminder(1).to(to, x_webhook_signature=None),
    ("agent", 401, FORGED): lambda to: reminder(1).to(to, x_webhook_signature="0"),
    ("vapi", 401, "vapi: none of authorization, x-vapi-secret, x-webhook-secret carries the secret"):
        lambda to: vapi(b"{}").to(to, x_vapi_secret="guess"),
    ("vapi", 401, "timestamp: more than 300 s from this machine's clock"):
        lambda to: vapi(b"{}").to(to, x_signature="0", x_timestamp="1"),
    ("twilio", 401, "twilio: x-twilio-signature does not match the URL and body; is BASE_URL what Twilio calls?"):
        lambda to: twilio([("CallSid", "CA1")], url="https://other.example.com/webhooks/twilio").to(to),
    ("dialpad", 401, "dialpad: expected a JWT of three segments"): lambda to: to.send("POST", "/webhooks/dialpad", {}),
    ("unknown", 401, "no such source"): lambda to: to.send("POST", "/nowhere", {}, b"{}"),
    ("agent", 413, "the body is too large"): lambda to: agent(b" " * (MAX_BODY + 1)).to(to),
    ("agent", 415, "the body is compressed"): lambda to: reminder(1).to(to, content_encoding="gzip"),
}  # fmt: skip


def test_each_cause_is_counted_by_source_and_status_and_logged(dsn, db, receiving, caplog):
    with receiving(dsn) as receiver:
        for (_, status, _), send in CAUSES.items():
            assert send(receiver).status == status

    assert counts(db) == dict.fromkeys(CAUSES, 1)
    assert told(caplog) == [(*key, 1) for key in CAUSES]


def test_a_body_that_does_not_arrive_is_counted(dsn, db, receiving):
    with receiving(dsn, receipt_deadline=0.1) as receiver:
        receiver.exchange(b"POST /webhooks/agent HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")

    assert counts(db) == {("agent", 408, "the body did not arrive in time"): 1}


def test_nothing_that_is_refused_becomes_an_event(dsn, db, receiving):
    with receiving(dsn) as receiver:
        for send in CAUSES.values():
            send(receiver)

    assert db.execute("SELECT count(*) FROM webhook_events").fetchone() == (0,)


def test_what_is_stored_is_not_counted(dsn, db, receiving):
    with receiving(dsn) as receiver:
        assert [reminder(1).to(receiver).status for _ in range(2)] == [200, 200]

    assert counts(db) == {}


def test_a_flood_is_counted_exactly_and_its_few_lines_add_up_to_it(dsn, db, receiving, caplog):
    began = time.monotonic()
    with receiving(dsn, every=0.05) as receiver, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: forge(receiver, number), range(400)))
    took = time.monotonic() - began

    assert counts(db) == {("agent", 401, FORGED): 400}
    assert sum(refused for *_, refused in told(caplog)) == 400
    assert len(told(caplog)) <= 2 + took / refusals.GAP


def test_counts_are_added_while_the_receiver_runs(dsn, db, receiving):
    with receiving(dsn, every=0.05) as receiver:
        forge(receiver)
        wait_for(lambda: total(db) == 1)
        forge(receiver)
        wait_for(lambda: total(db) == 2)

        assert db.execute(
            "SELECT last_at > first_at AND last_at > now() - interval '5 min' FROM webhook_refusals"
        ).fetchall() == [(True,)]


def test_counts_of_two_receivers_add_up(dsn, db, receiving):
    with receiving(dsn, every=0.02) as one, receiving(dsn, every=0.02) as other, ThreadPoolExecutor(4) as pool:
        list(pool.map(forge, [one, other] * 100))

    assert counts(db) == {("agent", 401, FORGED): 200}


def test_a_database_that_is_away_for_a_while_loses_no_count(fresh_dsn, server_dsn, receiving, caplog):
    with psycopg.connect(server_dsn, autocommit=True) as admin, receiving(fresh_dsn, every=0.05) as receiver:
        forge(receiver)
        with psycopg.connect(fresh_dsn, autocommit=True) as conn:
            wait_for(lambda: total(conn) == 1)
        set_open(admin, fresh_dsn, False)
        for _ in range(9):
            forge(receiver)
        wait_for(lambda: "refusals not saved cause=OperationalError" in caplog.text)
        set_open(admin, fresh_dsn, True)
        forge(receiver)
        wait_for(lambda: "refusals saved again" in caplog.text)

    with psycopg.connect(fresh_dsn) as conn:
        assert total(conn) == 11


def set_open(admin, dsn, is_open):
    """Let connections to a database in, or end those that there are and let none in."""
    name = str(conninfo_to_dict(dsn)["dbname"])
    statement = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(sql.Identifier(name), sql.Literal(is_open))
    admin.execute(statement)
    if not is_open:
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])


def test_no_request_waits_for_the_counts(dsn, db, receiving):
    with receiving(dsn, every=0.01) as receiver:
        with psycopg.connect(dsn) as blocker:
            blocker.execute("LOCK TABLE webhook_refusals")
            forge(receiver)
            wait_for(lambda: waits(db, "webhook_refusals"))
            for number in range(20):
                forge(receiver, number)
                assert reminder(number).to(receiver).status == 200
        wait_for(lambda: total(db) == 21)


def waits(conn, table):
    query = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = %s::regclass"
    return conn.execute(query, [table]).fetchone() != (0,)


def test_two_that_add_at_once_lock_the_rows_in_one_order(dsn, db):
    def counted(*causes):
        found = Refusals(dsn)
        for cause in causes:
            found.count("agent", 401, cause)
        return found

    asyncio.run(counted("a", "b").save())
    with psycopg.connect(dsn) as other:
        other.execute("UPDATE webhook_refusals SET refused = refused + 1 WHERE cause = 'a'")
        adding = threading.Thread(target=lambda: asyncio.run(counted("b", "a").save()))
        adding.start()
        wait_for(lambda: db.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() != (0,))
        other.execute("SET lock_timeout = '100 ms'")
        other.execute("UPDATE webhook_refusals SET refused = refused + 1 WHERE cause = 'b'")
    adding.join()

    assert sorted(counts(db).values()) == [3, 3]


def test_nothing_of_a_request_is_in_the_log_or_the_table(dsn, db, receiving, caplog):
    phone, signature, path = "5555550100", "c2lnbmF0dXJl", "/who/is/there"
    with receiving(dsn) as receiver:
        for target in (path, "/webhooks/agent", "/webhooks/vapi", "/webhooks/twilio", "/webhooks/dialpad"):
            headers = dict.fromkeys(PROOFS, signature)
            reply = receiver.send("POST", f"{target}?From={phone}", headers, f"From={phone}&key={signature}".encode())
            assert reply.status == 401

    kept = str(db.execute("SELECT webhook_refusals::text FROM webhook_refusals").fetchall())
    assert total(db) == 5
    assert not any(text in caplog.text + kept for text in (phone, signature, path))


def test_of_one_cause_the_first_is_logged_at_once_and_then_one_line_in_ten_seconds(clock, caplog):
    counted = Refusals("", clock=clock)
    for _ in range(400):
        counted.count("twilio", 401, "no")
    clock.now += 9.9
    counted.count("twilio", 401, "no")
    clock.now += 0.1
    for _ in range(12):
        counted.count("twilio", 401, "no")

    assert caplog.messages == [
        "delivery refused source=twilio status=401 cause=no",
        "delivery refused source=twilio status=401 cause=no and 400 more in 10 s",
    ]


def test_other_sources_and_causes_are_logged_beside_a_flood(clock, caplog):
    counted = Refusals("", clock=clock)
    for _ in range(100):
        counted.count("twilio", 401, "no")
    counted.count("twilio", 413, "no")
    counted.count("twilio", 401, "never")
    counted.count("vapi", 401, "no")

    assert len(caplog.messages) == 4


def test_what_was_held_back_of_a_flood_that_has_ended_is_logged(dsn, clock, caplog):
    async def flooded():
        counted = Refusals(dsn, every=0.01, clock=clock)
        counted.start()
        for _ in range(5):
            counted.count("twilio", 401, "no")
        clock.now += 10
        await asyncio.to_thread(wait_for, lambda: len(caplog.messages) == 2)
        await counted.stop()

    asyncio.run(flooded())

    assert caplog.messages[1] == "delivery refused source=twilio status=401 cause=no and 3 more in 10 s"


def test_a_flood_of_a_hundred_thousand_takes_no_memory(clock):
    counted = Refusals("", clock=clock)

    def flood(size):
        for _ in range(size):
            counted.count("twilio", 401, FORGED)
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = flood(1000)
        assert flood(100_000) - before < 10_000
    finally:
        tracemalloc.stop()
    assert counted.unsaved["twilio", 401, FORGED].refused == 101_000


def test_causes_beyond_a_number_are_counted_as_other(clock):
    counted = Refusals("", clock=clock)
    for number in range(10_000):
        counted.count("twilio", 401, f"cause {number}")

    assert len(counted.lines) == len(counted.unsaved) == KEYS_MAX + 1
    assert counted.unsaved["twilio", 401, "other"].refused == 10_000 - KEYS_MAX


def test_what_no_database_took_until_the_end_is_told(caplog):
    async def run():
        counted = Refusals("postgresql://inbox:pw@127.0.0.1:1/inbox")
        counted.start()
        counted.count("agent", 401, "no")
        await counted.stop()

    asyncio.run(run())

    assert "refusals lost count=1" in caplog.messages
    assert "pw" not in caplog.text


@pytest.fixture
def refused(db):
    db.execute(
        "INSERT INTO webhook_refusals (day, source, status, cause, refused, first_at, last_at)"
        " SELECT (now() - age)::date, source, 401, 'not ' || source, refused, now() - age, now() - age"
        " FROM (VALUES ('twilio', 400, interval '1 min'), ('twilio', 12, '3 days'), ('unknown', 7, '2 hours'),"
        " ('vapi', 1, '30 days')) AS those (source, refused, age)"
    )


@pytest.fixture
def run(dsn, monkeypatch, capsys):
    """Function that runs `receiver refusals` with arguments, and returns its exit code and what it printed."""

    def command(*arguments, **environ):
        for name, value in {"DATABASE_URL": dsn, **environ}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("sys.argv", ["receiver", "refusals", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return command


def test_the_command_lists_what_was_refused_the_last_first(run, refused):
    code, printed, _ = run()

    assert code == 0
    assert [row.split("\t")[:3] for row in printed.splitlines()] == [
        ["refused", "source", "status"], ["412", "twilio", "401"], ["7", "unknown", "401"],
    ]  # fmt: skip


def test_the_command_lists_as_json_with_times_in_utc(run, refused):
    _, printed, _ = run("--json")
    twilio, unknown = map(json.loads, printed.splitlines())

    assert unknown["cause"] == "not unknown"
    assert twilio["first_at"] < twilio["last_at"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", twilio["last_at"])


def test_a_day_is_counted_whole_or_not_at_all(run, refused):
    _, printed, _ = run("--since", "15m", "--json")

    assert [json.loads(row)["refused"] for row in printed.splitlines()] == [400]


@pytest.mark.parametrize(
    ("code", "since", "environ"),
    [
        (3, "7d", {}),
        (2, "soon", {}),
        (69, "7d", {"DATABASE_URL": "postgresql://inbox:pw@127.0.0.1:1/x"}),
        (78, "7d", {"DATABASE_URL": ""}),
    ],
)
def test_the_command_exits_as_the_others(db, run, code, since, environ):
    assert run("--since", since, **environ)[0] == code


def test_the_command_says_what_to_run_where_there_is_no_table(empty_dsn, run):
    code, _, words = run(DATABASE_URL=empty_dsn)

    assert code == 78
    assert "processor db migrate" in words


def test_the_doctor_warns_of_what_was_refused_in_the_last_hour(dsn, db, refused):
    (finding,) = doctor.refusals({"DATABASE_URL": dsn})

    assert finding.level == "warn"
    assert finding.found.startswith("twilio: 400 refused ")
    assert finding.found.endswith(" UTC: not twilio")


def test_the_doctor_has_nothing_to_warn_of_where_nothing_was_refused(dsn, db):
    assert [one.level for one in doctor.refusals({"DATABASE_URL": dsn})] == ["ok"]
