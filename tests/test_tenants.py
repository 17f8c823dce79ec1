"""Several numbers of one Twilio account: each event belongs to its number's tenant, each call gets its answer."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from receiver.settings import DEFAULTS, sources_from
from tests.http_receiver import duplicates, rows
from tests.receiver_fixtures import BASE_URL, SECRETS, connection, db, start
from tests.signing import Signed, twilio, twilio_json, twilio_signature

__all__ = ["connection", "db", "start"]

ACME, BOLT, STRANGER = "+15555550142", "+15555550143", "+15555550100"
SHORT = "77777"
NUMBERS = [
    {"number": ACME, "app_id": "acme"},
    {"number": BOLT, "app_id": "bolt"},
    {"number": SHORT, "app_id": "acme"},
]


@pytest.fixture
def shared(start, db):
    """A receiver with one URL for all numbers, of which the source's own tenant has the rest."""
    return running(start, app_id="house", numbers=NUMBERS)


def running(start, **options):
    source = {"name": "twilio", "provider": "twilio", "secrets": ["env:TWILIO"], **options}
    return start([source], {**SECRETS, "BASE_URL": BASE_URL})


def call(caller, called, direction="inbound", **fields):
    pairs = {"CallSid": "CA1", "From": caller, "To": called, "Direction": direction, "CallStatus": "ringing", **fields}
    return twilio(pairs.items())


def tenants(db):
    return [row.app_id for row in rows(db)]


@pytest.mark.parametrize(
    ("leg", "tenant"),
    [
        ((STRANGER, ACME, "inbound"), "acme"),
        ((STRANGER, BOLT, "inbound"), "bolt"),
        ((BOLT, STRANGER, "outbound-api"), "bolt"),
        ((ACME, STRANGER, "outbound-dial"), "acme"),
        ((BOLT, STRANGER, ""), "bolt"),
        ((STRANGER, ACME, "outbound-api"), "acme"),
        ((STRANGER, "+15555550199", "inbound"), "house"),
        (("anonymous", ACME, "inbound"), "acme"),
        ((STRANGER, "15555550142", "inbound"), "house"),
        (("client:alice", "sip:bob@example.com", "inbound"), "house"),
    ],
)
def test_a_call_belongs_to_the_tenant_of_our_number(leg, tenant, shared, db):
    assert call(*leg).to(shared).status == 200

    assert tenants(db) == [tenant]


def test_of_two_tenants_on_one_call_each_sees_its_own_leg(shared, db):
    call(ACME, BOLT, "outbound-api", CallSid="CA1").to(shared)
    call(ACME, BOLT, "inbound", CallSid="CA2").to(shared)

    assert [(row.subject, row.app_id) for row in rows(db)] == [("call/CA1", "acme"), ("call/CA2", "bolt")]


@pytest.mark.parametrize("status", ["initiated", "ringing", "in-progress", "completed", "busy", "no-answer"])
def test_status_callbacks_on_a_shared_url_get_the_tenant_of_their_call(status, shared, db):
    fields = {"CallStatus": status, "SequenceNumber": "1", "CallbackSource": "call-progress-events"}
    call(ACME, STRANGER, "outbound-api", CallSid="CA1", **fields).to(shared)
    call(STRANGER, BOLT, "inbound", CallSid="CA2", **fields).to(shared)

    assert [(row.subject, row.app_id) for row in rows(db)] == [("call/CA1", "acme"), ("call/CA2", "bolt")]


def test_a_status_callback_by_get_has_its_number_in_the_query(shared, db):
    target = "/webhooks/twilio?CallSid=CA1&CallStatus=completed&From=%2B15555550100&To=%2B15555550143"

    Signed(target, headers={"x-twilio-signature": twilio_signature(BASE_URL + target)}, method="GET").to(shared)

    assert tenants(db) == ["bolt"]


@pytest.mark.parametrize(
    ("fields", "tenant"),
    [
        ({"SmsStatus": "received", "From": STRANGER, "To": BOLT}, "bolt"),
        ({"SmsStatus": "received", "From": STRANGER, "To": SHORT}, "acme"),
        ({"SmsStatus": "received", "From": f"whatsapp:{STRANGER}", "To": f"whatsapp:{BOLT}"}, "bolt"),
        ({"MessageStatus": "delivered", "From": BOLT, "To": STRANGER}, "bolt"),
        ({"MessageStatus": "delivered", "From": BOLT, "To": ACME}, "bolt"),
        ({"MessageStatus": "delivered", "From": f"whatsapp:{ACME}", "To": f"whatsapp:{STRANGER}"}, "acme"),
        ({"MessageStatus": "failed", "From": "AlphaSender"}, "house"),
    ],
)
def test_a_message_belongs_to_the_tenant_of_our_number(fields, tenant, shared, db):
    twilio([("MessageSid", "SM1"), *fields.items()]).to(shared)

    assert tenants(db) == [tenant]


def test_each_event_of_a_batch_belongs_to_its_own_tenant(shared, db):
    sent = {"messageStatus": "sent", "from": BOLT, "to": ACME}
    received = {"from": STRANGER, "to": ACME}
    batch = [{"id": f"EZ{n}", "data": data} for n, data in enumerate([sent, received, {"to": 1}, {}, None])]

    twilio_json(json.dumps(batch).encode()).to(shared)

    assert tenants(db) == ["bolt", "acme", "house", "house", "house"]


def test_what_names_no_number_is_the_sources(shared, db):
    twilio([("RecordingSid", "RE1"), ("RecordingStatus", "completed"), ("CallSid", "CA1")]).to(shared)

    assert tenants(db) == ["house"]


@pytest.mark.parametrize(
    ("query", "tenant"),
    [
        ("app_id=bolt", "bolt"),
        ("a=1&app_id=acme&app_id=bolt", "acme"),
        ("app_id=stranger", "house"),
        ("app_id=", "house"),
    ],
)
def test_what_names_no_number_is_of_the_tenant_that_its_url_names_if_that_is_the_sources(query, tenant, shared, db):
    fields = [("RecordingSid", "RE1"), ("RecordingStatus", "completed"), ("CallSid", "CA1")]
    twilio(fields, target=f"/webhooks/twilio?{query}").to(shared)

    assert tenants(db) == [tenant]


def test_a_number_goes_before_what_the_url_names(shared, db):
    fields = [("CallSid", "CA1"), ("From", STRANGER), ("To", ACME), ("Direction", "inbound"), ("CallStatus", "ringing")]
    twilio(fields, target="/webhooks/twilio?app_id=bolt").to(shared)

    assert tenants(db) == ["acme"]


def test_an_event_of_a_tenant_is_stored_once_like_any_other(shared, db):
    for _ in range(2):
        call(STRANGER, ACME).to(shared)

    assert (tenants(db), len(duplicates(db))) == (["acme"], 1)


def twiml(receiver, caller, called, direction="inbound"):
    return ET.fromstring(call(caller, called, direction).to(receiver).body)


def said(answer):
    return [element.text for element in answer.iter("Say")], [one.get("url") for one in answer.iter("Stream")]


def test_a_number_sets_its_own_answer_over_the_sources(start, db):
    answer = {"greeting": "Hello.", "language": "en-GB", "pause": 2, "stream_url": "wss://media.example/house"}
    acme = {**NUMBERS[0], "greeting": "Acme.", "stream_path": "/acme"}
    receiver = running(start, answer=answer, numbers=[acme, {**NUMBERS[1], "stream_url": "wss://bolt.example/ws"}])

    of_acme = twiml(receiver, STRANGER, ACME)
    assert said(of_acme) == (["Acme."], ["wss://hooks.example.com/acme"])
    assert (of_acme[0].get("language"), of_acme[1].get("length")) == ("en-GB", "2")
    assert said(twiml(receiver, STRANGER, BOLT)) == (["Hello."], ["wss://bolt.example/ws"])
    assert said(twiml(receiver, STRANGER, STRANGER)) == (["Hello."], ["wss://media.example/house"])


def test_a_call_that_we_made_is_answered_as_its_number_says(start, db):
    receiver = running(start, answer={"greeting": "Hello."}, numbers=[{**NUMBERS[0], "greeting": "Acme."}])

    assert said(twiml(receiver, ACME, STRANGER, "outbound-api"))[0] == ["Acme."]


@pytest.mark.parametrize(
    "own", [{"greeting": "Acme."}, {"pause": 1}, {"stream_path": "/acme"}, {"stream_url": "wss://acme.example/ws"}]
)
def test_a_number_with_stream_settings_is_answered_where_the_source_answers_nothing(own, start, db):
    receiver = running(start, numbers=[{**NUMBERS[0], **own}, NUMBERS[1]])

    assert twiml(receiver, STRANGER, ACME).find("Connect/Stream") is not None
    assert list(twiml(receiver, STRANGER, BOLT)) == []
    assert list(twiml(receiver, STRANGER, STRANGER)) == []


def test_the_answer_and_the_tenant_are_of_the_same_number_when_a_field_is_repeated(start, db):
    receiver = running(start, numbers=[{**NUMBERS[0], "greeting": "Acme."}, {**NUMBERS[1], "greeting": "Bolt."}])

    reply = twilio([("CallSid", "CA1"), ("From", STRANGER), ("To", BOLT), ("To", ACME)]).to(receiver)

    assert (tenants(db), said(ET.fromstring(reply.body))[0]) == (["bolt"], ["Bolt."])


def test_the_sources_file_of_the_how_to_is_one_and_does_as_it_says(tmp_path):
    text = (Path(__file__).parents[1] / "docs" / "incoming-calls.md").read_text(encoding="utf-8")
    (tmp_path / "sources.toml").write_text(re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[0])
    environ = {"WEBHOOK_SOURCES": str(tmp_path / "sources.toml"), "TWILIO_AUTH_TOKEN": "t", "BASE_URL": BASE_URL}

    status, incoming = sources_from(environ)

    assert (status.options.answer, set(status.options.by_number)) == (None, {ACME, BOLT})
    assert {path for _, _, paths, _, _ in DEFAULTS for path in paths} >= {*status.paths[:-1], *incoming.paths[:-1]}
    answers = [number.answer(incoming.options.answer) for number in incoming.options.numbers]
    assert [answer.parameters for answer in answers] == [("reminder_id",)] * 2
    assert [answer.greeting for answer in answers] == ["Acme, one moment please.", "Bolt, guten Tag."]
