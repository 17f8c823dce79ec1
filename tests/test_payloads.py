"""Every sample payload of our providers becomes the row that it is about; two deliveries become one row or two."""

import json
from datetime import datetime

import pytest

from receiver.delivery import Delivery
from receiver.providers import dialpad, vapi
from tests.http_receiver import JSON, duplicates, rows
from tests.receiver_fixtures import DIALPAD_SECRET, connection, db, receiver, start
from tests.vector_cases import OURS, body_of, case_id, read, samples, target_of

__all__ = ["connection", "db", "receiver", "start"]

FILES = ("twilio", "vapi", "dialpad", "voice-agent")
ALL = [sample for name in FILES for sample in samples(name)]
PAIRS = [pair for pair in read("delivery-pairs")["pairs"] if pair["provider"] in OURS]
# Nothing that is signed tells these from a retry. Kept once: a status counted twice is worse than one missed,
# and for the agent an event_id in the body, or Standard Webhooks, does tell them apart.
ONCE = {"twilio-sms-delivered-twice", "agent-retry-or-second-call"}
REASONS = read("vapi-ended-reasons")["reasons"]
# Of vapi_server_sdk 3.0.0 besides (types/server_message_status_update_ended_reason.py): no call came about, or no more.
NEWER_FAILURES = [
    "call.in-progress.error-configfault-model-unsupported-in-squad",
    "call.in-progress.error-configfault-transport-unsupported-for-model",
    "call.in-progress.error-providerfault-eleven-labs-blocked-concurrent-requests-and-requested-upgrade",
    "call.in-progress.error-providerfault-eleven-labs-vapi-voice-disabled-by-owner",
    "call.in-progress.error-providerfault-eleven-labs-voice-disabled-by-owner",
    "call.start.error-vapifault-worker-not-available",
    "call.start.squad-version-error-validation",
    "sip-outbound-unallocated-number",
]


def wire_body(provider, request):
    """Return the bytes that are sent: with a secret Dialpad's are a JWT, which the vectors show decoded."""
    body = body_of(request)
    return dialpad.sign(DIALPAD_SECRET.encode(), body) if provider == "dialpad" else body


def deliver(receiver, provider, request):
    if "webhook-timestamp" in request["headers"]:
        receiver.now = int(request["headers"]["webhook-timestamp"])
    body = wire_body(provider, request)
    reply = receiver.send(request["method"], target_of(request), request["headers"], body)
    assert reply.status == 200


def known(row):
    """Return what a row says, in the vectors' words."""
    kind, _, subject_id = row.subject.partition("/")
    return row.event_type, row.provider_type, {"kind": kind, "id": subject_id}, row.occurred_at


def expected(event):
    time = event["occurred_at"] and datetime.fromisoformat(event["occurred_at"])
    return event["type"], event["provider_type"], event["subject"], time


def identity(event):
    return tuple(str(value) for value in event["identity"] if value != "(header)")


@pytest.mark.parametrize("sample", ALL, ids=case_id)
def test_a_sample_becomes_the_events_it_holds(sample, receiver, db):
    deliver(receiver, sample["provider"], sample["request"])

    events = sample["expect"]["events"]
    assert [known(row) for row in rows(db)] == [expected(event) for event in events]
    assert all(
        set(identity(event)) <= set(row.event_id.split(":")) for row, event in zip(rows(db), events, strict=True)
    )
    assert {row.body for row in rows(db)} == {wire_body(sample["provider"], sample["request"])}


@pytest.mark.parametrize("name", FILES)
def test_samples_with_distinct_identities_have_distinct_keys(name, receiver, db):
    for sample in samples(name):
        deliver(receiver, sample["provider"], sample["request"])

    events = [event for sample in samples(name) for event in sample["expect"]["events"]]
    assert len(rows(db)) == len({identity(event) for event in events})


@pytest.mark.parametrize("pair", PAIRS, ids=case_id)
def test_a_pair_is_kept_once_or_twice(pair, receiver, db):
    deliver(receiver, pair["provider"], pair["first"])
    deliver(receiver, pair["provider"], pair["second"])

    once = pair["relation"] == "same" or pair["id"] in ONCE
    assert (len(rows(db)), len(duplicates(db))) == ((1, 1) if once else (2, 0))


@pytest.mark.parametrize("pair", [pair for pair in PAIRS if pair["relation"] == "same"], ids=case_id)
def test_a_duplicate_says_whether_its_bytes_are_the_first_ones(pair, receiver, db):
    deliver(receiver, pair["provider"], pair["first"])
    deliver(receiver, pair["provider"], pair["second"])

    assert [again.same_body for again in duplicates(db)] == [pair["body_bytes_equal"]]


def test_every_pair_that_can_not_be_told_apart_has_our_choice():
    assert {pair["id"] for pair in PAIRS if pair["relation"] == "cannot-tell"} == ONCE


@pytest.mark.parametrize("times", [{}, {"startedAt": "2026-11-20T10:00:00.000Z"}], ids=["not started", "started"])
def test_every_ended_reason_of_vapi_maps_as_listed(times):
    assert {reason: ended_type(reason, times) for reason in REASONS} == REASONS
    assert len(REASONS) == 595


@pytest.mark.parametrize("reason", NEWER_FAILURES)
def test_a_newer_reason_that_names_a_failure_is_one_whether_or_not_it_started(reason):
    types = {ended_type(reason, times) for times in ({}, {"startedAt": "2026-11-20T10:00:00.000Z"})}

    assert types == {"call.failed"}


def ended_type(reason, times):
    message = {"type": "status-update", "status": "ended", "endedReason": reason, **times}
    delivery = Delivery("POST", "", "/", JSON, json.dumps({"message": message}).encode())
    (event,) = vapi.identify(delivery, vapi.Options())
    return event.event_type
