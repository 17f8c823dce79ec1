"""What we sign is what the receiver verifies, and what the vectors of other senders' tools say."""

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from handlers.signing import agent_signature, standard_webhooks_headers
from receiver.delivery import Delivery
from receiver.providers import agent, standard_webhooks, vapi
from tests.vector_cases import body_of, case_id, read, samples, signatures

NOW = 1_780_000_000
SECRETS = [
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",  # base64
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwBr",  # without its padding
    "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwBg==",  # with it, without the prefix
    "whsec_not base64!",
    "any long random text; both sides know it",
    "Schlüssel",
]
STANDARD = [
    case
    for case in signatures("standard-webhooks")
    if case["expected"] == "valid" and "signing_secret" in case["secret"]
]


def delivery(body, headers):
    return Delivery("POST", "https://inbox.example.com", "/webhooks/agent", headers, body)


@pytest.mark.parametrize("sample", samples("voice-agent"), ids=case_id)
def test_the_agents_samples_are_signed_alike(sample):
    request, secret = sample["request"], read("payloads-voice-agent")["webhook_secret"]

    assert agent_signature(secret, body_of(request)) == request["headers"]["X-Webhook-Signature"]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("body", [b"", b"{}", b"\x00\xff"])
def test_the_receiver_takes_the_agents_signature(secret, body):
    headers = {agent.SIGNATURE: agent_signature(secret, body)}

    agent.verify(delivery(body, headers), secret.encode(), agent.Options(), NOW)


@pytest.mark.parametrize("case", STANDARD, ids=case_id)
def test_standard_webhooks_of_other_tools_are_signed_alike(case):
    request = case["request"]
    given = {name.lower().replace("svix-", "webhook-"): value for name, value in request["headers"].items()}
    identifier, timestamp = given["webhook-id"], given["webhook-timestamp"]

    ours = standard_webhooks_headers(case["secret"]["signing_secret"], identifier, int(timestamp), body_of(request))

    assert ours.keys() == {"webhook-id", "webhook-timestamp", "webhook-signature"}
    assert (ours["webhook-id"], ours["webhook-timestamp"]) == (identifier, timestamp)
    assert ours["webhook-signature"] in given["webhook-signature"].split(" ")


def test_vectors_of_standard_webhooks_there_are():
    assert len(STANDARD) > 8


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("body", [b"", b"{}", b"\x00\xff"])
def test_the_receiver_takes_standard_webhooks(secret, body):
    headers = standard_webhooks_headers(secret, "msg_1", NOW, body)

    standard_webhooks.verify(delivery(body, headers), secret.encode(), NOW)


@pytest.mark.parametrize("identifier", ["", "a\r\nx-other: 1", "ü", " a", "a "])
def test_an_id_that_no_header_carries_is_refused(identifier):
    with pytest.raises(ValueError, match="expected a message id"):
        standard_webhooks_headers(SECRETS[0], identifier, NOW, b"{}")


@hypothesis_settings(deadline=None, database=None)
@given(st.text("0123456789{}", max_size=12), st.one_of(st.binary(max_size=40), st.just(b"{timestamp}.{body}")))
def test_vapis_default_text_is_signed_as_its_format_says(timestamp, body):
    default = vapi.Hmac()
    spelt_otherwise = vapi.Hmac(payload_format="{timestamp}.{body}{svix-id}")
    sent = delivery(body, {})

    signatures = [vapi.signature(sent, b"secret", scheme, timestamp) for scheme in (default, spelt_otherwise)]

    assert signatures[0] == signatures[1]
