"""Nothing that isn't proven leaves a row, an answer to read, or a hint which proof failed."""

import hmac
import json
from base64 import b64decode, b64encode
from dataclasses import replace
from hashlib import sha1, sha256

import pytest

from receiver.providers import standard_webhooks
from tests.http_receiver import JSON, duplicates, rows
from tests.receiver_fixtures import (
    AGENT_SECRET,
    BASE_URL,
    SECRETS,
    STANDARD_SECRET,
    TOKEN,
    VAPI_SECRET,
    connection,
    db,
    receiver,
    start,
)
from tests.signing import Signed, agent, agent_signature, dialpad, reminder, twilio, twilio_json, vapi

__all__ = ["connection", "db", "receiver", "start"]

NOW = 1_674_087_231
BODY = b'{"reminder_id":"rem_1","event_type":"call_completed"}'
VALID = {
    "agent": agent(BODY),
    "vapi": vapi(BODY),
    "twilio": twilio([("CallSid", "CA1")]),
    "twilio JSON": twilio_json(BODY),
}
PROOF = {"agent": "x_webhook_signature", "vapi": "x_vapi_secret", "twilio": "x_twilio_signature"}
PROOF["twilio JSON"] = PROOF["twilio"]
FORGED = {
    "missing": lambda _: None,
    "empty": lambda _: "",
    "blank": lambda _: "  ",
    "not ASCII": lambda _: b"\xff\xfe",
    "NUL-like": lambda _: "%00",
    "truncated": lambda given: given[:-1],
    "half": lambda given: given[: len(given) // 2],
    "longer": lambda given: given + "0",
    "another last letter": lambda given: given[:-2] + ("AA" if given[-2:] != "AA" else "BB"),
    "other case": str.swapcase,
    "quoted": lambda given: f'"{given}"',
    "listed": lambda given: f"{given},{given}",
    "good and bad": lambda given: [given, "bad"],
    "bad and good": lambda given: ["bad", given],
    "twice": lambda given: [given, given],
    "long": lambda given: given * 200,
    "None": lambda _: "None",
}


def assert_refused(reply, db):
    assert (reply.status, reply.body, rows(db)) == (401, b"", [])


@pytest.fixture(autouse=True)
def alive(receiver):
    """Whatever a test sent, the next valid delivery is stored."""
    yield
    assert reminder("the next").to(receiver).status == 200


@pytest.mark.parametrize("provider", VALID)
@pytest.mark.parametrize("forgery", FORGED)
def test_a_changed_proof_is_refused(forgery, provider, receiver, db):
    sent, header = VALID[provider], PROOF[provider]

    reply = sent.to(receiver, **{header: FORGED[forgery](sent.headers[header.replace("_", "-")])})

    assert_refused(reply, db)


@pytest.mark.parametrize("sent", [*VALID.values(), dialpad(BODY)])
@pytest.mark.parametrize("path", ["agent", "vapi", "dialpad", "twilio", "standard"])
def test_what_is_signed_for_one_source_is_refused_at_another(sent, path, receiver, db):
    if not sent.target.startswith(f"/webhooks/{path}"):
        assert_refused(Signed(f"/webhooks/{path}", sent.body, sent.headers).to(receiver), db)


@pytest.mark.parametrize(
    "headers",
    [
        {"x-vapi-secret": VAPI_SECRET.upper()},
        {"x-vapi-secret": f"Bearer {VAPI_SECRET}"},
        {"x-vapi-secret": f"{VAPI_SECRET},"},
        {"x-vapi-secret": f"x{VAPI_SECRET}"},
        {"authorization": VAPI_SECRET},
        {"authorization": f"bearer {VAPI_SECRET}"},
        {"authorization": f"Bearer  {VAPI_SECRET}"},
        {"authorization": "Bearer "},
        {"authorization": f"Basic {b64encode(VAPI_SECRET.encode()).decode()}"},
        {"cookie": f"x-vapi-secret={VAPI_SECRET}"},
        {"x-vapi-secret": VAPI_SECRET, "x-signature": "", "x-timestamp": "1"},
    ],
    ids=str,
)
def test_another_spelling_of_vapis_secret_is_refused(headers, receiver, db):
    assert_refused(receiver.send("POST", "/webhooks/vapi", headers, BODY), db)


def test_a_secret_in_the_url_is_refused(receiver, db):
    assert_refused(receiver.send("POST", f"/webhooks/vapi?x-vapi-secret={VAPI_SECRET}", {}, BODY), db)


def test_the_algorithm_is_not_taken_from_a_header(receiver, db):
    weak = b64encode(hmac.new(TOKEN.encode(), f"{BASE_URL}/webhooks/twilio".encode(), "md5").digest()).decode()
    strong = b64encode(hmac.new(TOKEN.encode(), f"{BASE_URL}/webhooks/twilio".encode(), sha256).digest()).decode()
    for signature, name in ((weak, "MD5"), (strong, "HMAC_SHA256"), (weak, "none")):
        settings = {"X-Twilio-Webhooks-Signature-Settings": f"algorithm={name}", "x-twilio-signature": signature}
        assert_refused(receiver.send("POST", "/webhooks/twilio", settings), db)


def test_twilios_settings_header_changes_nothing_of_a_right_signature(receiver, db):
    sent = VALID["twilio"]

    assert sent.to(receiver, X_Twilio_Webhooks_Signature_Settings="algorithm=junk").status == 200


def test_hmac_sha1_is_no_signature_of_the_agent(receiver, db):
    signature = hmac.new(AGENT_SECRET.encode(), BODY, sha1).hexdigest()

    assert_refused(VALID["agent"].to(receiver, x_webhook_signature=signature), db)


def test_a_signature_with_its_algorithm_before_it_is_accepted(receiver, db):
    assert VALID["agent"].to(receiver, x_webhook_signature=f"sha256={agent_signature(BODY)}").status == 200


def standard(receiver, timestamp, *, element="{}", message="msg_1", body=BODY, signed_timestamp=None):
    receiver.now = NOW
    signature = standard_webhooks.sign(STANDARD_SECRET.encode(), message, signed_timestamp or timestamp, body)
    headers = {"webhook-id": message, "webhook-timestamp": timestamp, "webhook-signature": element.format(signature)}
    return receiver.send("POST", "/webhooks/standard", JSON | headers, body)


@pytest.mark.parametrize("age", [-300, -299, 0, 299, 300])
def test_a_timestamp_within_five_minutes_is_accepted(age, receiver, db):
    assert standard(receiver, str(NOW + age)).status == 200


@pytest.mark.parametrize(
    "timestamp",
    [
        str(NOW - 301), str(NOW + 301), "nan", "NaN", "inf", "-inf", "1e400", "-1", "", "0", "0x10", "1_674_087_231",
        "\uff11674087231", f"+{NOW}", f"{NOW}.0", "1.674087231e9", f"{NOW} {NOW}", "9" * 400, f"{NOW}\u0660",
    ],
)  # fmt: skip
def test_any_other_timestamp_is_refused_though_signed(timestamp, receiver, db):
    assert_refused(standard(receiver, timestamp), db)


@pytest.mark.parametrize("provider", ["agent", "twilio JSON"])
@pytest.mark.parametrize(
    "body",
    [
        BODY.replace(b":", b": "),
        b'{"event_type":"call_completed","reminder_id":"rem_1"}',
        BODY + b"\n",
        b"\xef\xbb\xbf" + BODY,
        BODY.replace(b"rem_1", b"rem_\\u0031"),
    ],
)
def test_the_same_json_in_other_bytes_is_refused(body, provider, receiver, db):
    assert json.loads(body) == json.loads(BODY)

    assert_refused(replace(VALID[provider], body=body).to(receiver), db)


@pytest.mark.parametrize("hosts", [["evil.example", "hooks.example.com"], ["hooks.example.com", "evil.example"]])
def test_of_two_hosts_neither_is_believed(hosts, receiver, db):
    forged = twilio([("CallSid", "CA1")], url="https://evil.example/webhooks/twilio")

    assert 400 <= forged.to(receiver, Host=hosts).status <= 401
    assert rows(db) == []


@pytest.mark.parametrize("timestamp", [f"{NOW}000", f"{NOW}999", f"00{NOW}"])
def test_a_timestamp_in_other_digits_than_those_of_seconds_is_refused_though_signed(timestamp, receiver, db):
    """As standardwebhooks 1.1.0 has it (webhooks.py, Webhook.verify), though not for the same reasons."""
    assert_refused(standard(receiver, timestamp), db)


def test_a_timestamp_that_is_not_the_signed_one_is_refused(receiver, db):
    assert_refused(standard(receiver, str(NOW + 1), signed_timestamp=str(NOW)), db)


@pytest.mark.parametrize("element", ["v1", "v1,a,b", "v1,A", "v2,{}", "V1,{}", "{},", "v1a,{}", ",", "v1,\u00e9"])
def test_a_malformed_element_is_refused(element, receiver, db):
    assert_refused(standard(receiver, str(NOW), element=element), db)


@pytest.mark.parametrize("element", ["v1 {}", "v2,x {}", "v1,bad v1, , {}", "{} v1,bad", "v1,bad, {}", "{}, v1,bad"])
def test_a_right_element_counts_among_others(element, receiver, db):
    assert standard(receiver, str(NOW), element=element).status == 200


def test_only_ten_elements_are_looked_at(receiver, db):
    assert standard(receiver, str(NOW), element="v1,x " * 9 + "{}").status == 200
    assert standard(receiver, str(NOW), element="v1,x " * 2000 + "{}", message="msg_2").status == 401
    assert len(rows(db)) == 1


def test_a_replay_within_the_window_is_stored_once(receiver, db):
    for timestamp in (NOW, NOW, NOW + 5):
        assert standard(receiver, str(timestamp)).status == 200

    assert (len(rows(db)), len(duplicates(db))) == (1, 2)


def test_an_old_delivery_by_one_scheme_proves_nothing_by_the_other(receiver, db):
    signed = b"msg_1.1600000000." + b'{"reminder_id": "rem_1", "event_type": "call_answered"}'
    # AGENT_SECRET is no base64, and so the key of both.
    element = standard_webhooks.sign(AGENT_SECRET.encode(), "msg_1", "1600000000", signed.split(b".", 2)[2])
    replayed = Signed("/webhooks/voice-agent", signed, {"x-webhook-signature": b64decode(element[3:]).hex()})

    assert replayed.to(receiver).status == 401
    assert rows(db) == []


def test_an_unsigned_id_makes_no_new_event(receiver, db):
    for token in ("a", "b"):
        assert VALID["twilio"].to(receiver, I_Twilio_Idempotency_Token=token).status == 200
        assert VALID["agent"].to(receiver, webhook_id=token, x_request_id=token).status == 200

    assert (len(rows(db)), len(duplicates(db))) == (2, 2)


def test_of_two_secrets_either_proves_and_a_retired_one_does_not(start, db):
    source = {"name": "turning", "provider": "agent", "secrets": ["env:NEW", "env:OLD"]}
    environ = {"NEW": "new-secret", "OLD": "old-secret"}
    both, retired = start([source], environ), start([{**source, "secrets": ["env:NEW"]}], environ)

    statuses = [
        one.send("POST", "/webhooks/turning", {"x-webhook-signature": agent_signature(BODY, secret)}, BODY).status
        for one in (both, retired)
        for secret in environ.values()
    ]

    assert statuses == [200, 200, 200, 401]


def test_a_flood_of_forgeries_leaves_no_row_and_few_lines(receiver, db, caplog):
    for number in range(200):
        sent = reminder(number, phone="+15555550100")
        assert sent.to(receiver, x_webhook_signature=agent_signature(sent.body, "a guess")).status == 401

    assert rows(db) == []
    assert sum("agent: x-webhook-signature does not match" in line for line in caplog.messages) < 20
    assert "+15555550100" not in caplog.text


def test_no_secret_signature_or_content_is_logged_or_kept_beside_the_body(receiver, db, caplog):
    secret = {"x_vapi_secret": VAPI_SECRET, "authorization": f"Bearer {VAPI_SECRET}", "cookie": "session=1"}
    sent = vapi(json.dumps({"message": {"type": "status-update", "phone": "+15555550100"}}).encode())

    assert sent.to(receiver, **secret).status == 200
    assert sent.to(receiver, x_vapi_secret="guess").status == 401

    assert not any(text in caplog.text for text in (*SECRETS.values(), "+15555550100", "guess"))
    assert not any(VAPI_SECRET in str(row.headers) or "session" in str(row.headers) for row in rows(db))


def test_the_key_is_the_id_that_was_signed_and_no_other_header(start, db):
    receiver = start(
        [{"name": "standard", "provider": "agent", "secrets": ["env:STANDARD"]}], {"STANDARD": STANDARD_SECRET}
    )
    receiver.now = NOW
    signature = standard_webhooks.sign(STANDARD_SECRET.encode(), "msg_1", str(NOW), BODY)
    headers = {"svix-id": "msg_1", "svix-timestamp": str(NOW), "svix-signature": signature}

    for extra in ({}, {"webhook-id": "x1"}, {"webhook-id": "x2", "webhook-timestamp": "1"}):
        assert receiver.send("POST", "/webhooks/standard", JSON | headers | extra, BODY).status == 200

    assert [row.event_id for row in rows(db)] == ["msg_1"]
    assert len(duplicates(db)) == 2
