"""Events of our own: put into the inbox by whom the transaction belongs to, once a key."""

from datetime import UTC, datetime
from hashlib import sha256

import psycopg
import pytest

from processor import emit, on, registry, rehearse
from tests.inbox import add, look, process
from tests.processes import wait_for


@pytest.fixture
def handlers(monkeypatch):
    monkeypatch.setattr(registry, "HANDLERS", [])


def emitted(conn):
    return conn.execute("SELECT event_id FROM webhook_events WHERE source = 'inbox' ORDER BY id").fetchall()


def test_an_emitted_event_is_a_row_like_a_providers(db):
    at = datetime(2026, 11, 20, 12, tzinfo=UTC)

    assert emit(
        db, "campaign.completed", "campaign/1", app_id="acme", key="1", payload={"name": "Grüße"}, occurred_at=at
    )

    body = '{"name": "Grüße"}'.encode()
    columns = "app_id, source, provider, provider_type, event_id, event_type, subject, body, body_sha256, occurred_at"
    assert look(db, 1, columns) == (
        "acme", "inbox", "inbox", "", "campaign.completed:acme:1", "campaign.completed", "campaign/1",
        body, sha256(body).digest(), at,
    )  # fmt: skip
    assert look(db, 1, "payload, processed_at, next_attempt_at <= now()") == ({"name": "Grüße"}, None, True)


def test_a_key_is_stored_once_a_type_and_tenant(db):
    assert emit(db, "call.timeout", "call/1", app_id="acme", key="1")
    assert not emit(db, "call.timeout", "call/2", app_id="acme", key="1", payload={"another": 1})

    assert emit(db, "call.timeout", "call/1", app_id="other", key="1")
    assert emit(db, "call.silent", "call/1", app_id="acme", key="1")


def test_keys_too_long_for_the_table_are_told_apart_by_their_ends(db):
    for key in ("k" * 300 + "1", "k" * 300 + "2"):
        assert emit(db, "call.timeout", None, app_id="acme", key=key)
        assert not emit(db, "call.timeout", None, app_id="acme", key=key)


@pytest.mark.parametrize("payload", [{"at": datetime.now(UTC)}, {"rate": float("nan")}])
def test_a_payload_that_json_cannot_hold_is_refused(db, payload):
    with pytest.raises((TypeError, ValueError)):
        emit(db, "call.timeout", "call/1", app_id="acme", key="1", payload=payload)


def test_what_a_failing_handler_emitted_is_rolled_back_with_it(db, handlers):
    @on("call.ended")
    def fail(event, conn):
        emit(conn, "campaign.completed", "campaign/1", app_id=event.app_id, key="1")
        raise ConnectionError("the crm is down")

    event = add(db, "call.ended")
    process(db)

    assert look(db, event, "last_error") == ("ConnectionError: the crm is down",)
    assert emitted(db) == []


def test_a_handler_that_runs_again_emits_nothing_twice_and_its_event_is_handled(db, handlers):
    handled = []
    on("campaign.completed")(lambda event, conn: handled.append((event.app_id, event.subject, event.payload)))

    @on("call.ended")
    def complete(event, conn):
        emit(conn, "campaign.completed", "campaign/1", app_id=event.app_id, key="1", payload={"calls": 2})

    event = add(db, "call.ended", app_id="acme")
    process(db)
    db.execute("UPDATE webhook_events SET processed_at = NULL WHERE id = %s", [event])
    process(db)

    assert emitted(db) == [("campaign.completed:acme:1",)]
    assert handled == [("acme", "campaign/1", {"calls": 2})]


def test_a_rehearsal_shows_what_would_be_emitted_and_keeps_none_of_it(db, dsn, handlers):
    @on("call.ended")
    def complete(event, conn):
        emit(conn, "campaign.completed", "campaign/1", app_id=event.app_id, key="1")

    (rehearsed,) = rehearse.rehearse(lambda: psycopg.connect(dsn), [add(db, "call.ended")])

    assert rehearsed.result == "handled"
    assert [(table.name, table.inserted) for table in rehearsed.touched] == [("webhook_events", 1)]
    assert emitted(db) == []


def test_who_waits_is_woken_when_the_transaction_is_committed_and_not_by_a_key_that_is_there(db, dsn):
    with psycopg.connect(dsn, autocommit=True) as listener:
        listener.execute("LISTEN webhook_events")

        def told():
            listener.execute("SELECT 1")  # after which all is read that was told before
            return [notification.payload for notification in listener.notifies(timeout=0)]

        with db.transaction():
            emit(db, "call.timeout", "call/1", app_id="acme", key="1")
            assert told() == []
        wait_for(lambda: told() == [""])
        emit(db, "call.timeout", "call/1", app_id="acme", key="1")
        assert told() == []
