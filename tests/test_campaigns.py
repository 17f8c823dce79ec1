"""Vapi calls and campaign progress: what server messages mean for a call, and when a campaign is over."""

import json
import logging
import threading
from dataclasses import replace
from decimal import Decimal
from itertools import permutations
from typing import Any

import psycopg
import pytest

from handlers import calls
from handlers.providers import call_event, vapi
from processor import on, operations
from processor.loop import Processor
from receiver.providers.vapi_events import ended_type
from receiver.settings import from_environ
from tests.http_receiver import Receiver
from tests.inbox import add, look, make_due, process
from tests.processes import processor, wait_for
from tests.receiver_fixtures import BASE_URL, VAPI_SECRET
from tests.signing import vapi as signed
from tests.told import (
    at,
    event,
    row,
    rows,
    systems,
    tell_twilio,
    tell_vapi,
    vapi_flat,
    vapi_message,
    vapi_status,
)
from tests.vector_cases import read

__all__ = ["systems"]

pytestmark = pytest.mark.usefixtures("systems")

REASONS = read("vapi-ended-reasons")["reasons"]
CAMPAIGN = {"campaignId": "camp-1"}
PROGRESS = "SELECT status, total, active, completed, failed, answered FROM campaign_progress"
DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
WAITING = "SELECT FROM webhook_events WHERE processed_at IS NULL AND dead_at IS NULL"


def vapi_call(conn):
    return row(conn, "SELECT * FROM vapi_calls")


def status(conn):
    return vapi_call(conn)["status"]


def progress(conn):
    return tuple(row(conn, PROGRESS).values())


def campaign(conn, *states, planned=None):
    """Make a campaign with a call in each of these states: c0, c1, ..."""
    conn.execute("INSERT INTO campaigns (campaign_id, planned_calls) VALUES ('camp-1', %s)", [planned])
    for number, state in enumerate(states):
        conn.execute(
            "INSERT INTO calls (provider, call_id, campaign_id, state) VALUES ('vapi', %s, 'camp-1', %s)",
            [f"c{number}", state],
        )


@pytest.fixture
def completions(db):
    """Function that counts how often a campaign was completed."""
    db.execute("CREATE TABLE completions (campaign_id text)")
    db.execute(
        "CREATE FUNCTION note_completion() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO completions VALUES (NEW.campaign_id); RETURN NULL; END $$"
    )
    db.execute(
        "CREATE TRIGGER note_completion AFTER UPDATE ON campaigns FOR EACH ROW"
        " WHEN (OLD.status = 'RUNNING' AND NEW.status = 'COMPLETED') EXECUTE FUNCTION note_completion()"
    )
    yield lambda: row(db, "SELECT count(*) FROM completions")["count"]
    db.execute("DROP FUNCTION note_completion CASCADE")
    db.execute("DROP TABLE completions")


def test_a_message_to_api_webhooks_vapi_is_answered_200_and_updates_its_call(db, dsn):
    receiver = Receiver(from_environ({"DATABASE_URL": dsn, "WEBHOOK_SHARED_SECRET": VAPI_SECRET, "BASE_URL": BASE_URL}))
    body = b'{"type": "call.answered", "call": {"id": "v1"}}'
    right = replace(signed(body), target="/api/webhooks/vapi")
    try:
        answers = [
            right.to(receiver).status,
            right.to(receiver, x_vapi_secret="wrong").status,
            right.to(receiver, x_vapi_secret=None).status,
        ]
    finally:
        receiver.stop()
    process(db)

    assert answers == [200, 401, 401]
    assert status(db) == "IN_PROGRESS"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("call.started", "QUEUED"),
        ("call.queued", "QUEUED"),
        ("call.ringing", "RINGING"),
        ("call.answered", "IN_PROGRESS"),
        ("call.ended", "ENDED"),
        ("call.failed", "FAILED"),
    ],
)
def test_a_flat_event_of_the_seed_maps_to_its_status(db, kind, expected):
    vapi_flat(db, kind)
    process(db)

    assert status(db) == expected


@pytest.mark.parametrize(
    ("told", "reason", "expected"),
    [
        ("scheduled", None, "QUEUED"),
        ("queued", None, "QUEUED"),
        ("ringing", None, "RINGING"),
        ("in-progress", None, "IN_PROGRESS"),
        ("ended", "customer-ended-call", "ENDED"),
        ("ended", "assistant-ended-call", "ENDED"),
        ("ended", "voicemail", "ENDED"),
        ("ended", "customer-busy", "FAILED"),
        ("ended", "customer-did-not-answer", "FAILED"),
        ("ended", "twilio-failed-to-connect-call", "FAILED"),
        ("ended", "manually-canceled", "CANCELED"),
        ("ended", "scheduled-call-deleted", "CANCELED"),
        ("ended", "silence-timed-out", "TIMEOUT"),
        ("ended", "exceeded-max-duration", "TIMEOUT"),
    ],
)
@pytest.mark.parametrize("kind", ["status-update", "end-of-call-report"])
def test_a_status_update_and_a_report_map_to_their_status(db, kind, told, reason, expected):
    if kind == "end-of-call-report" and reason is None:
        return  # reports are of ends
    fields = {"status": told} if kind == "status-update" else {}
    tell_vapi(db, vapi_message(kind, 51, **fields, **({"endedReason": reason} if reason else {})))
    process(db)

    assert status(db) == expected


@pytest.mark.parametrize("started", [False, True], ids=["not started", "started"])
def test_every_ended_reason_of_a_report_means_what_it_means_in_a_status_update(started):
    meant = {reason: f"call.{vapi.ended_state(reason, started=started)}" for reason in REASONS}

    assert meant == REASONS
    assert meant == {reason: ended_type(reason, started=started) for reason in REASONS}
    assert len(meant) == 595


@pytest.mark.parametrize("started", [False, True])
def test_a_reason_that_is_in_no_list_is_read_alike_in_report_and_status_update(started):
    for reason in ("", "a-new-reason", "a-new-error", "customer-busy-twice", "x.hook-executed-say"):
        assert f"call.{vapi.ended_state(reason, started=started)}" == ended_type(reason, started=started)


def test_a_call_that_is_silent_for_too_long_is_a_timeout(db):
    vapi_status(db, "in-progress")
    process(db)
    db.execute("UPDATE webhook_expectations SET armed_at = now() - interval '5 h', due_at = now() - interval '1 h'")
    process(db)

    assert status(db) == "TIMEOUT"


def test_a_report_fills_in_end_reason_cost_recording_transcript_and_time(db):
    (report,) = (one for one in read("payloads-vapi")["samples"] if one["id"] == "vapi-end-of-call-report")
    message = json.loads(report["request"]["body"])
    vapi_status(db, "in-progress", 8.2, call=message["message"]["call"]["id"])
    tell_vapi(db, message)
    process(db)

    found = vapi_call(db)
    assert {name: found[name] for name in ("status", "ended_at", "ended_reason", "cost_usd", "recording_url",
                                           "transcript", "last_status_at", "duration_seconds")} == {
        "status": "ENDED", "ended_at": at(51), "ended_reason": "customer-ended-call", "cost_usd": Decimal("0.0473"),
        "recording_url": "https://storage.vapi.example/rec-mono.wav",
        "transcript": "AI: How can I help?\nUser: Tuesday is fine.\n", "last_status_at": at(55),
        "duration_seconds": Decimal("42.8"),
    }  # fmt: skip
    assert found["campaign_id"] == "ad82e95a-9c74-82cf-33cf-e59a30ea4060"


def test_the_flat_end_of_the_seed_fills_in_the_same(db):
    vapi_flat(db, "call.ended", endedAt="2026-11-20T10:00:51Z", endedReason="customer-ended-call", cost=0.05,
              recordingUrl="https://storage/rec.wav", transcript=[{"role": "user", "text": "Hi"}])  # fmt: skip
    process(db)

    found = vapi_call(db)
    assert [found[name] for name in ("status", "ended_at", "ended_reason", "cost_usd", "recording_url",
                                     "transcript")] == [
        "ENDED", at(51), "customer-ended-call", Decimal("0.05"), "https://storage/rec.wav",
        '[{"role": "user", "text": "Hi"}]',
    ]  # fmt: skip


def test_several_events_of_a_call_end_in_the_right_status_whatever_their_order(db):
    story: list[dict[str, Any]] = [
        {"kind": "status-update", "seconds": 0, "status": "queued"},
        {"kind": "status-update", "seconds": 9, "status": "in-progress"},
        {"kind": "status-update", "seconds": 51, "status": "ended", "endedReason": "customer-ended-call"},
        {"kind": "end-of-call-report", "seconds": 55, "endedReason": "customer-ended-call", "cost": 0.05},
    ]
    orders = list(permutations(story))
    for number, order in enumerate(orders):
        for fields in order:
            tell_vapi(db, vapi_message(**fields, call=f"v{number}"))
    process(db)

    assert row(db, "SELECT DISTINCT status, cost_usd, ended_at, last_status_at FROM vapi_calls") == {
        "status": "ENDED", "cost_usd": Decimal("0.05"), "ended_at": at(55), "last_status_at": at(55),
    }  # fmt: skip
    assert row(db, "SELECT count(*) FROM vapi_calls") == {"count": len(orders)}


def test_a_call_and_its_log_are_written_together_or_not_at_all(db):
    failures = [ConnectionError("crm is down")]

    @on("call.answered")
    def push(event, conn):
        if failures:
            raise failures.pop()

    told = vapi_status(db, "in-progress")
    process(db)
    assert rows(db, "SELECT FROM calls") == rows(db, "SELECT FROM call_events") == []
    assert look(db, told, "last_error, attempts, dead_at") == ("ConnectionError: crm is down", 1, None)

    make_due(db)
    process(db)
    assert status(db) == "IN_PROGRESS"
    assert row(db, "SELECT change FROM call_events") == {"change": "created"}


def test_a_database_error_while_an_event_is_handled_is_kept_and_the_event_waits(db):
    db.execute("ALTER TABLE calls ADD CONSTRAINT broken CHECK (call_id <> 'v1')")
    try:
        told = vapi_status(db, "ringing")
        process(db)
        (error, waits) = look(db, told, "last_error, next_attempt_at > now() AND dead_at IS NULL")
    finally:
        db.execute("ALTER TABLE calls DROP CONSTRAINT broken")
    assert ("CheckViolation" in error, waits) == (True, True)

    make_due(db)
    process(db)
    assert status(db) == "RINGING"


def test_a_message_of_an_unknown_type_is_logged_and_processed_and_changes_no_status(db, caplog):
    vapi_status(db, "ringing")
    told = tell_vapi(db, vapi_message("language-change-detected", 3, language="de"))
    with caplog.at_level(logging.INFO, "handlers"):
        process(db)

    assert f"message unknown id={told} provider=vapi type=language-change-detected" in caplog.text
    assert (look(db, told, "outcome, dead_at"), status(db)) == (("handled", None), "RINGING")
    assert rows(db, "SELECT change FROM call_events ORDER BY id") == [{"change": "created"}, {"change": "noted"}]


def test_a_message_of_an_unknown_type_about_no_call_is_logged_and_processed(db):
    told = tell_vapi(db, {"message": {"type": "a-new-thing"}})
    process(db)

    assert look(db, told, "outcome, dead_at") == ("handled", None)


def test_a_malformed_payload_is_a_dead_letter_with_the_reason(db):
    told = tell_vapi(db, {"message": {"type": "status-update", "status": "ringing", "call": "v1"}})
    process(db)

    (error,) = look(db, told, "last_error")
    assert error.startswith("Invalid: vapi status-update:ringing: call: ")
    assert look(db, told, "dead_at IS NOT NULL") == (True,)


@pytest.mark.parametrize("ignored", [False, True])
def test_a_call_that_is_not_found_is_logged_and_created_or_ignored_and_never_an_error(db, caplog, monkeypatch, ignored):
    monkeypatch.setattr(calls, "IGNORED", frozenset({"vapi"} if ignored else ()))
    told = vapi_status(db, "ringing")
    with caplog.at_level(logging.INFO, "handlers"):
        process(db)

    assert look(db, told, "outcome, dead_at") == ("handled", None)
    assert len(rows(db, "SELECT FROM vapi_calls")) == (0 if ignored else 1)
    assert f"call {'ignored' if ignored else 'unknown'} id={told} provider=vapi type=call.ringing; " in caplog.text


def test_an_event_that_is_told_twice_is_handled_as_once(db):
    told = vapi_status(db, "ended", 51, endedReason="customer-ended-call", about=CAMPAIGN)
    process(db)
    before = vapi_call(db)

    operations.replay(db, [told])
    process(db)

    assert vapi_call(db) == before
    assert progress(db) == ("COMPLETED", 1, 0, 1, 0, 1)


def test_progress_is_counted_anew_when_a_call_ends(db):
    campaign(db, "queued", "queued", "queued", "queued")
    for call, told in (("c0", "ended"), ("c1", "in-progress"), ("c2", "ended")):
        fields = {"endedReason": "customer-busy" if call == "c2" else "voicemail"} if told == "ended" else {}
        vapi_status(db, told, 9, call=call, **fields)
    process(db)

    assert progress(db) == ("RUNNING", 4, 2, 1, 1, 2)
    assert row(db, "SELECT completed_rate, failed_rate, ended_rate FROM campaign_progress") == {
        "completed_rate": Decimal("0.25"), "failed_rate": Decimal("0.25"), "ended_rate": Decimal("0.5"),
    }  # fmt: skip


def test_a_campaign_is_completed_when_its_last_active_call_ends(db, caplog):
    campaign(db, "completed", "queued")
    vapi_status(db, "ended", 51, call="c1", endedReason="customer-busy")
    with caplog.at_level(logging.INFO, "handlers"):
        process(db)

    assert progress(db) == ("COMPLETED", 2, 0, 1, 1, 1)
    assert row(db, "SELECT completed_at FROM campaigns") == {"completed_at": at(51)}
    assert "campaign completed id=" in caplog.text


@pytest.mark.parametrize("state", ["scheduled", "queued", "initiated", "ringing", "answered"])
def test_a_campaign_with_a_call_that_is_still_active_goes_on(db, state):
    campaign(db, state, "queued")
    vapi_status(db, "ended", 51, call="c1", endedReason="voicemail")
    process(db)

    assert progress(db)[:3] == ("RUNNING", 2, 1)


def test_a_campaign_without_calls_is_never_completed(db):
    campaign(db)
    add(db, "campaign.call_ended", source="inbox", provider="inbox", subject="campaign/camp-1",
        payload={"campaign_id": "camp-1"})  # fmt: skip
    process(db)

    assert look(db, 1, "outcome") == ("handled",)
    assert progress(db) == ("RUNNING", 0, 0, 0, 0, 0)


def test_a_campaign_of_planned_calls_waits_for_as_many(db):
    campaign(db, "queued", planned=2)
    vapi_status(db, "ended", 51, call="c0", endedReason="voicemail")
    process(db)
    assert progress(db)[0] == "RUNNING"
    assert row(db, "SELECT ended_rate FROM campaign_progress") == {"ended_rate": Decimal("0.5")}

    vapi_status(db, "ended", 60, call="c9", endedReason="voicemail", about=CAMPAIGN)
    process(db)
    assert progress(db)[:2] == ("COMPLETED", 2)


def test_a_call_that_the_application_ends_itself_counts_too(db):
    campaign(db, "queued")
    db.execute("UPDATE calls SET state = 'canceled'")
    process(db)

    assert progress(db) == ("COMPLETED", 1, 0, 0, 1, 0)


def test_a_campaign_that_is_completed_stays_so_whatever_comes_after(db):
    campaign(db, "queued")
    vapi_status(db, "ended", 51, call="c0", endedReason="voicemail")
    process(db)
    before = row(db, "SELECT * FROM campaigns")
    vapi_status(db, "in-progress", 60, call="c1", about=CAMPAIGN)
    vapi_status(db, "ended", 70, call="c1", endedReason="voicemail", about=CAMPAIGN)
    process(db)

    assert row(db, "SELECT * FROM campaigns") == before
    assert progress(db)[:2] == ("COMPLETED", 2)


def test_campaigns_of_two_tenants_with_one_id_are_two(db):
    for app_id, told in (("acme", "in-progress"), ("default", "ended")):
        message = vapi_message("status-update", 9, call=app_id, status=told, endedReason="voicemail", about=CAMPAIGN)
        tell_vapi(db, message, app_id=app_id)
    process(db)

    assert rows(db, "SELECT app_id, status, total FROM campaign_progress ORDER BY app_id") == [
        {"app_id": "acme", "status": "RUNNING", "total": 1}, {"app_id": "default", "status": "COMPLETED", "total": 1},
    ]  # fmt: skip


def test_calls_of_twilio_and_vapi_are_one_campaigns(db):
    campaign(db, "queued")
    tell_twilio(db, "completed", 51, query="campaign_id=camp-1")
    process(db)
    assert progress(db)[:3] == ("RUNNING", 2, 1)

    vapi_status(db, "ended", 60, call="c0", endedReason="voicemail")
    process(db)
    assert progress(db)[0] == "COMPLETED"


@pytest.mark.parametrize("first", [0, 1], ids=["committed in order", "the other way"])
def test_two_last_calls_that_end_at_once_complete_their_campaign_exactly_once(db, dsn, completions, caplog, first):
    campaign(db, "queued", "queued")
    with psycopg.connect(dsn) as one, psycopg.connect(dsn) as other:
        for number, conn in enumerate((one, other)):  # neither sees the other's
            conn.execute("UPDATE calls SET state = 'completed' WHERE call_id = %s", [f"c{number}"])
        ending = (one, other)
        ending[first].commit()
        assert progress(db)[0] == "RUNNING"
        with caplog.at_level(logging.INFO, "handlers"):
            process(db)
            assert completions() == 0
            ending[1 - first].commit()
            at_once(dsn)

    assert (completions(), progress(db)[:3]) == (1, ("COMPLETED", 2, 0))
    assert caplog.text.count("campaign completed") == 1


def test_two_last_calls_committed_together_complete_their_campaign_exactly_once(db, dsn, completions):
    for _ in range(5):
        db.execute("TRUNCATE campaigns, webhook_events CASCADE")
        db.execute("TRUNCATE completions")
        campaign(db, "queued", "queued")
        for number in range(2):
            vapi_status(db, "ended", 51 + number, call=f"c{number}", endedReason="voicemail")

        at_once(dsn, batch_size=1)

        assert (completions(), progress(db)[0]) == (1, "COMPLETED")


def at_once(dsn, batch_size=50):
    """Let two workers process all that is due at the same time."""
    start = threading.Barrier(2, timeout=60)

    def work():
        worker = Processor(lambda: psycopg.connect(dsn, autocommit=True), batch_size)
        start.wait()
        worker.run(0.05, once=True)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def test_a_hot_campaign_has_no_deadlock_under_four_workers_and_is_completed_once(db, dsn, completions):
    before, many = row(db, DEADLOCKS), 100
    for number in range(many):
        query = f"call_id=att-{number}&campaign_id=camp-1&contact_id=cont-{number}"
        tell_twilio(db, "in-progress", 9, call=f"CA{number}", query=query)
    for number in range(many):
        query = f"call_id=att-{number}&campaign_id=camp-1&contact_id=cont-{number}"
        ended = ("completed", "busy", "no-answer")[number % 3]
        tell_twilio(db, ended, 51, call=f"CA{number}", query=query, CallDuration=42)

    with processor(dsn, "--workers", "4", "--batch-size", "10", "--interval", "0.1"):
        wait_for(lambda: not rows(db, WAITING))

    assert (completions(), progress(db)) == (1, ("COMPLETED", many, 0, 34, 66, 34))
    assert len(rows(db, "SELECT FROM dialogues")) == many
    assert rows(db, "SELECT * FROM webhook_attempts") == []
    wait_for(lambda: not rows(db, "SELECT FROM pg_stat_activity WHERE application_name = 'inbox-processor'"))
    assert row(db, DEADLOCKS) == before  # told by a backend at its end


def test_a_call_event_of_vapi_has_its_parties_by_who_called(db):
    about = {"type": "inboundPhoneCall", "phoneNumber": {"number": "+15555550100"}, "phoneCallProviderId": "CA9"}
    found = call_event(event(db, vapi_status(db, "ringing", about=about)))

    assert (found.direction, found.from_number, found.to_number, found.carrier_call_id) == (
        "inbound", "+15555550142", "+15555550100", "CA9",
    )  # fmt: skip
