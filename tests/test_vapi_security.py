"""What the first seed document asks of Vapi's webhook for security, at the path and with the headers that it names."""

import hmac
import json
from contextlib import contextmanager
from hashlib import sha256

import pytest

from processor import on, registry
from receiver.settings import from_environ
from tests.http_receiver import Receiver, duplicates, rows
from tests.inbox import process
from tests.receiver_fixtures import start

__all__ = ["start"]

SECRET = "a-shared-secret-of-vapi"
BODY = json.dumps({"type": "call.ringing", "call": {"id": "call-1", "phone": "+15555550100"}}).encode()
NOW = 1_674_087_231
INVALID = {"x-webhook-secret": "another-secret"}
MISSING: dict[str, str] = {}


@pytest.fixture
def handled(monkeypatch):
    """Subjects of the events that a handler has had."""
    monkeypatch.setattr(registry, "HANDLERS", [])
    subjects = []
    on("call.ringing")(lambda event, conn: subjects.append(event.subject))
    return subjects


@pytest.fixture
def vapi(dsn, db):
    """A receiver that has Vapi's source, and nothing stored or counted."""
    with receiving(dsn) as receiver:
        yield receiver


@contextmanager
def receiving(dsn):
    receiver = Receiver(from_environ({"DATABASE_URL": dsn, "WEBHOOK_SHARED_SECRET": SECRET}))
    try:
        yield receiver
    finally:
        receiver.stop()


def post(receiver, headers, body=BODY):
    return receiver.send("POST", "/api/webhooks/vapi", headers, body).status


def signed(timestamp, body=BODY):
    """Return the headers of Vapi's HMAC credential."""
    text = f"{timestamp}.".encode() + body
    return {"x-timestamp": str(timestamp), "x-signature": hmac.new(SECRET.encode(), text, sha256).hexdigest()}


@pytest.mark.parametrize("header", ["x-webhook-secret", "x-vapi-secret"])
def test_a_valid_secret_processes_the_event(vapi, db, handled, header):
    assert post(vapi, {header: SECRET}) == 200
    process(db)

    assert handled == ["call/call-1"]


@pytest.mark.parametrize(
    ("name", "prefix", "value", "status"),
    [
        ("Authorization", True, "Bearer {}", 200),
        ("Authorization", True, "{}", 401),
        ("Authorization", False, "{}", 200),
        ("Authorization", False, "Bearer {}", 401),
        ("X-My-Token", True, "Bearer {}", 200),
        ("X-My-Token", True, "{}", 200),
        ("X-My-Token", True, "Bearer x{}", 401),
        ("X-My-Token", True, "bearer{}", 401),
        ("X-My-Token", False, "{}", 200),
        ("X-My-Token", False, "Bearer {}", 401),
    ],
)
def test_a_credentials_header_and_prefix_are_each_set_on_their_own(name, prefix, value, status, start):
    """As headerName and bearerPrefixEnabled of BearerAuthenticationPlan are (vapi_server_sdk 3.0.0)."""
    source = {"name": "vapi-own", "provider": "vapi", "secrets": ["env:S"]}
    receiver = start([{**source, "header_name": name, "bearer_prefix": prefix}], {"S": SECRET})

    assert receiver.send("POST", "/webhooks/vapi-own", {name: value.format(SECRET)}, BODY).status == status


def test_an_invalid_secret_is_401(vapi):
    assert post(vapi, INVALID) == 401


def test_a_missing_secret_is_401(vapi):
    assert post(vapi, MISSING) == 401


def test_an_unauthorized_request_writes_no_event_and_reaches_no_handler(vapi, db, handled):
    for headers in (INVALID, MISSING, {"x-webhook-secret": ""}, signed("0")):
        assert post(vapi, headers) == 401
    process(db)

    assert (rows(db), handled) == ([], [])


def test_a_captured_delivery_sent_again_is_processed_once(vapi, db, handled):
    for _ in range(3):
        assert post(vapi, {"x-webhook-secret": SECRET}) == 200
        process(db)

    assert (handled, len(rows(db)), len(duplicates(db))) == (["call/call-1"], 1, 2)


def test_a_captured_signed_delivery_is_refused_after_five_minutes(vapi, db):
    vapi.now = NOW
    assert post(vapi, signed(NOW)) == 200
    vapi.now = NOW + 301

    assert post(vapi, signed(NOW)) == 401
    assert (len(rows(db)), duplicates(db)) == (1, [])


def test_a_captured_signature_proves_no_other_time_and_no_other_body(vapi, db):
    vapi.now = NOW + 301
    captured = signed(NOW)

    assert post(vapi, {**captured, "x-timestamp": str(NOW + 301)}) == 401
    vapi.now = NOW
    assert post(vapi, captured, BODY.replace(b"ringing", b"ended")) == 401
    assert rows(db) == []


def test_security_violations_are_logged_and_counted_by_cause(dsn, db, caplog):
    with receiving(dsn) as vapi:
        for headers in (INVALID, MISSING, signed("0")):
            post(vapi, headers)

    causes = [
        "timestamp: more than 300 s from this machine's clock",
        "vapi: none of authorization, x-vapi-secret, x-webhook-secret carries the secret",
    ]
    assert all(f"delivery refused source=vapi status=401 cause={cause}" in caplog.text for cause in causes)
    assert db.execute("SELECT cause, refused FROM webhook_refusals ORDER BY cause").fetchall() == [
        (causes[0], 1), (causes[1], 2),
    ]  # fmt: skip
    assert "another-secret" not in caplog.text
