"""Whose turn it is among the events of a subject, at the edges: parked, released, suspect, leased, paused."""

import psycopg
import pytest

from processor import on, pauses, registry
from tests.inbox import add, look, process

CLAIM = "SELECT ids, after_at::text FROM webhook_claim(50, NULL, %s, %s, %s, %s, %s, '-infinity', 0)"


@pytest.fixture(autouse=True)
def handlers(monkeypatch):
    monkeypatch.setattr(registry, "HANDLERS", [])
    on("call.ringing", "call.answered")(lambda event, conn: None)


def claimed(conn, *, shut=None, types=None, prefix=20):
    """Return what a claim gives, which is rolled back, and how far it looked."""
    nothing = shut and [None] * len(shut)
    with conn.transaction(force_rollback=True):
        return conn.execute(CLAIM, [types, shut, nothing, nothing, prefix]).fetchone()


def due(conn, event):
    return look(conn, event, "next_attempt_at <= clock_timestamp()") == (True,)


def wait_an_hour(conn, event):
    conn.execute("UPDATE webhook_events SET next_attempt_at = now() + interval '1 hour' WHERE id = %s", [event])


def test_an_event_that_is_running_under_a_lease_holds_its_subject_though_it_would_yield(db):
    columns = "last_error = 'x', attempts = 2, lease = 7, yields_at = now(), next_attempt_at = now() + interval '30 s'"
    head = add(db, subject="call/1")
    db.execute(f"UPDATE webhook_events SET {columns} WHERE id = {head}".encode())
    add(db, subject="call/1")

    assert claimed(db)[0] == []


def test_an_event_that_was_parked_and_then_failed_is_parked_no_more(db):
    on("call.failed")(lambda event, conn: 1 / 0)
    head, failing = add(db, subject="call/1"), add(db, "call.failed", subject="call/1")
    wait_an_hour(db, head)
    process(db)
    assert look(db, failing, "parked") == (True,)

    db.execute("UPDATE webhook_events SET next_attempt_at = now() WHERE id = %s", [head])
    process(db)

    assert look(db, failing, "attempts, parked") == (1, False)


@pytest.mark.parametrize("end", ["UPDATE webhook_events SET processed_at = now()", "DELETE FROM webhook_events"])
@pytest.mark.parametrize("why", ["it waits", "it is paused"])
def test_who_ends_a_head_by_hand_frees_what_waits_behind_it(db, end, why):
    head, follower = add(db, "call.answered", subject="call/1"), add(db, subject="call/1")
    if why == "it waits":
        wait_an_hour(db, head)
    else:
        pauses.pause(db, [pauses.Target("type", "call.answered")], None, "")
    process(db)
    assert look(db, follower, "parked") == (True,)

    db.execute(f"{end} WHERE id = {head}".encode())

    assert due(db, follower)


def test_pausing_one_thing_frees_nothing_that_waits_for_another(db):
    head, follower = add(db, subject="call/1"), add(db, subject="call/1")
    wait_an_hour(db, head)
    process(db)

    pauses.pause(db, [pauses.Target("type", "call.answered")], None, "")

    assert look(db, follower, "parked") == (True,)


def test_a_suspect_gets_its_turn_also_behind_one_whose_head_is_another_workers(db):
    add(db, "call.answered", subject="call/1")
    add(db, subject="call/1")
    suspect = add(db, subject="call/2", suspect=True)

    assert claimed(db, shut=["call.answered"])[0] == [suspect]


def test_a_suspect_without_a_subject_gets_its_turn_while_what_came_first_is_in_anothers_hands(db, dsn):
    first = add(db, subject=None)
    suspect = add(db, subject=None, suspect=True)
    with psycopg.connect(dsn) as other:
        other.execute("SELECT FROM webhook_events WHERE id = %s FOR UPDATE", [first])

        assert claimed(db)[0] == [suspect]


def test_one_that_yields_and_is_not_this_workers_does_not_use_up_the_subjects_share(db):
    head = add(db, "call.answered", subject="call/1", last_error="x", attempts=1)
    db.execute("UPDATE webhook_events SET yields_at = now() - interval '1 s' WHERE id = %s", [head])
    follower = add(db, subject="call/1")

    assert claimed(db, shut=["call.answered"], prefix=1)[0] == [follower]


def test_ten_thousand_events_of_a_subject_in_hand_do_not_hide_another(db, dsn):
    db.execute(
        "INSERT INTO webhook_events (source, provider, event_id, event_type, subject, payload)"
        " SELECT 'twilio', 'twilio', n, 'call.ringing', 'call/hot', '{}' FROM generate_series(1, 10500) AS n"
    )
    free = add(db, event_id="free")
    with psycopg.connect(dsn) as other:
        other.execute(CLAIM, [None] * 4 + [20])

        process(db)

        assert look(db, free, "outcome") == ("handled",)
        other.rollback()


def test_a_claim_that_sees_nothing_but_paused_events_does_not_look_at_them_again(db):
    add(db, next_attempt_at="2026-01-01")
    pauses.pause(db, [pauses.Target("type", "call.ringing")], None, "")

    assert claimed(db) != ([], "-infinity")
