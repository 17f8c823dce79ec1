"""What retention deleted is never an event again: a captured request, sent again, is a duplicate."""

import threading
from datetime import timedelta

import psycopg
import pytest

import sql as statements
from processor import operations
from processor.prune import Ages, Prune
from tests.commands import lines, runner
from tests.http_receiver import duplicates, rows
from tests.processes import wait_for
from tests.receiver_fixtures import BASE_URL, SECRETS, SOURCES, TOKEN, start
from tests.signing import dialpad, reminder, twilio, twilio_signature
from tests.test_schema import EVENT, NAMES

__all__ = ["start"]

DAY = timedelta(days=1)
AGES = Ages(events=90 * DAY)


@pytest.fixture
def receiver(start, db):
    return start(SOURCES, {"BASE_URL": BASE_URL, **SECRETS})


def prune(db, ages=AGES):
    db.execute("UPDATE webhook_events SET processed_at = '2020-01-02', received_at = '2020-01-01', outcome = 'handled'")
    pruning = Prune(ages)
    pruning.run(db)
    return pruning.removed


def tombstones(db):
    return db.execute("SELECT source, event_id FROM webhook_tombstones").fetchall()


@pytest.mark.parametrize("sent", [reminder(1), twilio([("CallSid", "CA1"), ("CallStatus", "ringing")]), dialpad(b"{}")])
def test_a_request_sent_again_after_its_event_was_pruned_is_a_duplicate(receiver, db, sent):
    assert sent.to(receiver).status == 200
    key = [(row.source, row.event_id) for row in rows(db)]
    assert prune(db).events == 1

    assert [sent.to(receiver).status for _ in range(2)] == [200, 200]

    assert rows(db) == []
    assert tombstones(db) == key
    assert [((row.source, row.event_id), row.same_body) for row in duplicates(db)] == [(key[0], None)] * 2


def test_so_is_one_of_a_dead_letter_that_was_purged(receiver, db):
    sent = dialpad(b"not JSON")
    sent.to(receiver)
    assert operations.purge(db, [row.id for row in rows(db)]) == 1

    assert sent.to(receiver).status == 200
    assert (rows(db), len(duplicates(db))) == ([], 1)


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (dialpad(b"{}"), lambda sent: sent.__class__(sent.target, sent.body + b"\n", sent.headers)),
        (dialpad(b"no"), lambda sent: sent.__class__(sent.target, b" " + sent.body, sent.headers)),
        (reminder(1), lambda sent: sent.__class__(sent.target, sent.body, {**sent.headers, "x-token": "2"})),
        (twilio([("CallSid", "CA1")]), lambda sent: sent.__class__(
            sent.target, sent.body, {**sent.headers, "i-twilio-idempotency-token": "2"})),
    ],
    ids=["white space behind a JWT", "before a JWT that can't be read", "a header", "Twilio's token"],
)  # fmt: skip
def test_nothing_unsigned_makes_a_captured_request_another_event(receiver, db, first, again):
    assert first.to(receiver).status == 200
    assert again(first).to(receiver).status == 200

    assert (len(rows(db)), len(duplicates(db))) == (1, 1)


def test_a_captured_get_sent_again_as_a_post_is_the_same_event(receiver, db):
    target = "/webhooks/twilio?CallSid=CA1&CallStatus=ringing"
    headers = {"x-twilio-signature": twilio_signature(BASE_URL + target, token=TOKEN)}

    assert [receiver.send(method, target, headers).status for method in ("GET", "POST")] == [200, 200]

    assert (len(rows(db)), len(duplicates(db))) == (1, 1)


def test_the_inboxs_own_events_leave_no_tombstone(db):
    db.execute("SELECT webhook_emit('default', 'call.check', 'call/CA1', 'k', '{}'::jsonb, NULL::timestamptz)")
    assert prune(db).events == 1

    assert tombstones(db) == []


def event(**values):
    return {name: NAMES.get(name, "text") for name in EVENT} | values


def test_a_prune_that_commits_while_its_event_is_delivered_again_wins(db, dsn):
    db.execute(statements.load("insert_event"), event(event_id="1"))
    outcome: list[object] = []

    def deliver():
        with psycopg.connect(dsn, autocommit=True) as conn:
            try:
                outcome.append(conn.execute(statements.load("insert_event"), event(event_id="1")).fetchone())
            except psycopg.errors.SerializationFailure:
                outcome.append("again")
            outcome.append(conn.execute(statements.load("insert_event"), event(event_id="1")).fetchone())

    with psycopg.connect(dsn) as pruner:
        pruner.execute("UPDATE webhook_events SET processed_at = '2020-01-02', outcome = 'handled'")
        names = {"ids": [row.id for row in rows(pruner)], "before": "2026-01-01"}
        assert pruner.execute(statements.load("prune_events"), names).fetchone() == (1,)
        delivering = threading.Thread(target=deliver)
        delivering.start()
        wait_for(lambda: db.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() != (0,))
    delivering.join()

    assert outcome == ["again", None]
    assert rows(db) == []


def test_a_delivery_that_meets_a_prune_is_answered_as_a_duplicate(receiver, db, session_database):
    sent, replies = reminder(1), []
    sent.to(receiver)

    with psycopg.connect(session_database) as pruner:
        pruner.execute("UPDATE webhook_events SET processed_at = '2020-01-02', outcome = 'handled'")
        names = {"ids": [row.id for row in rows(pruner)], "before": "2026-01-01"}
        pruner.execute(statements.load("prune_events"), names)
        delivering = threading.Thread(target=lambda: replies.append(sent.to(receiver).status))
        delivering.start()
        wait_for(lambda: db.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() != (0,))
    delivering.join()

    assert replies == [200]
    assert (rows(db), len(duplicates(db))) == ([], 1)


def test_tombstones_stay_for_ever_unless_their_age_is_given(db):
    db.execute(
        "INSERT INTO webhook_tombstones SELECT 'twilio', n, now() - n * interval '1 day'"
        " FROM generate_series(1, 1000, 100) AS n"
    )

    assert prune(db, Ages(events=DAY)).tombstones == 0
    assert prune(db, Ages(tombstones=500 * DAY)).tombstones == 5
    assert len(tombstones(db)) == 5


def test_the_command_forgets_tombstones_only_when_asked(db, dsn):
    db.execute("INSERT INTO webhook_tombstones VALUES ('twilio', '1', now() - interval '400 days')")
    run = runner(dsn)
    option = ("db", "prune", "--tombstones-older-than", "365d", "--json")

    assert lines(run(*option, "--dry-run"))[0]["tombstones"] == 1
    assert lines(run(*option))[0]["tombstones"] == 1
    assert tombstones(db) == []


def test_duplicates_of_deleted_events_are_pruned_by_their_own_age(receiver, db):
    sent = reminder(1)
    sent.to(receiver)
    prune(db)
    sent.to(receiver)
    sent.to(receiver)
    db.execute(
        "UPDATE webhook_duplicates SET received_at = '2020-01-01' WHERE id = (SELECT min(id) FROM webhook_duplicates)"
    )

    prune(db)

    assert len(duplicates(db)) == 1
