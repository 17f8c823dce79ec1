"""Every signature vector of our providers gets its verdict over HTTP. Where they are from: tests/vectors/README.md."""

import pytest

from receiver.settings import BadSettings
from tests.http_receiver import rows
from tests.receiver_fixtures import connection, db, start
from tests.vector_cases import body_of, case_id, configuration, read, seen, signatures

__all__ = ["connection", "db", "start"]

FILES = ("twilio", "dialpad", "voice-ai", "standard-webhooks")
EMPTY_SECRET = {"vapi-secret-empty-config"}
# Version v1a is Ed25519, for which neither Python nor our dependencies have code; its public keys begin with whpk_.
NOT_SUPPORTED = {"stdwh-v1a"}
PUBLIC_KEY = {"stdwh-v1a", "stdwh-v1-with-public-key-only"}

ALL = [case for name in FILES for case in signatures(name)]
DECIDED = [case for case in ALL if case["id"] not in EMPTY_SECRET | PUBLIC_KEY]
UNDECIDED = {case["id"]: case for case in signatures("sdk-disagreements")}
# What official tools disagree about, and what we do: the file's recommendation.
VERDICTS = {
    "twilio-creds-2": "invalid",  # the docs drop user information before signing, twilio-node's test doesn't
    "twilio-creds-3": "invalid",
    "twilio-single-quote": "invalid",  # signed over %27, requested as ': the target counts as received
    "twilio-quote-1": "valid",
    "twilio-quote-2": "invalid",
    "twilio-userinfo-port-bug": "valid",
    "stdwh-token-without-comma": "valid",  # a malformed element is passed over
    "stdwh-scientific-timestamp": "invalid",
    "stdwh-padded-timestamp": "invalid",
    "dialpad-trailing-newline": "valid",  # white space around a JWT isn't part of it
}
NOT_CONFIGURABLE = {
    "twilio-intl-url": "expected an absolute path in ASCII",
    "twilio-ipv6-port-bug": "an IPv6 literal",
}


def deliver(start, case):
    receiver = start(*configuration(case))
    receiver.now = case["now"]
    request = seen(case)
    return receiver.send(request["method"], request["target"], request["headers"], body_of(request))


def faults(start, case):
    with pytest.raises(BadSettings) as caught:
        start(*configuration(case))
    return "\n".join(caught.value.faults)


def assert_verdict(verdict, case, reply, db):
    stored = [row.body for row in rows(db)]
    if verdict == "valid":
        assert reply.status == 200
        assert set(stored) == {body_of(case["request"])}
    else:
        assert (reply.status, reply.body, stored) == (401, b"", [])


@pytest.mark.parametrize("case", DECIDED, ids=case_id)
def test_a_signature_gets_its_verdict(case, start, db):
    reply = deliver(start, case)

    assert_verdict(case["expected"], case, reply, db)


@pytest.mark.parametrize("name", VERDICTS)
def test_where_official_tools_disagree_we_do_as_recommended(name, start, db):
    case = UNDECIDED[name]

    reply = deliver(start, case)

    assert_verdict(VERDICTS[name], case, reply, db)


@pytest.mark.parametrize("name", NOT_CONFIGURABLE)
def test_a_url_that_official_tools_sign_differently_is_not_configurable(name, start):
    assert NOT_CONFIGURABLE[name] in faults(start, UNDECIDED[name])


def test_no_case_of_our_providers_is_left_out():
    assert UNDECIDED.keys() == VERDICTS.keys() | NOT_CONFIGURABLE.keys()
    assert {case["id"] for case in ALL} == {case["id"] for case in DECIDED} | EMPTY_SECRET | PUBLIC_KEY
    assert {len(read(f"signatures-{name}")["cases"]) for name in ("twilio", "dialpad")} == {55, 6}


@pytest.mark.parametrize("name", sorted(EMPTY_SECRET))
def test_an_empty_secret_keeps_the_receiver_from_starting(name, start):
    (case,) = (case for case in ALL if case["id"] == name)

    assert "is empty" in faults(start, case)


@pytest.mark.parametrize("name", sorted(PUBLIC_KEY))
def test_a_public_key_as_the_secret_keeps_the_receiver_from_starting(name, start):
    (case,) = (case for case in ALL if case["id"] == name)

    assert "is a public key" in faults(start, case)


@pytest.mark.parametrize("name", sorted(NOT_SUPPORTED))
def test_a_version_that_is_not_supported_is_refused(name, start, db):
    (case,) = (case for case in ALL if case["id"] == name)
    official = next(case for case in ALL if case["id"] == "stdwh-official")

    reply = deliver(start, {**case, "secret": official["secret"]})

    assert_verdict("invalid", case, reply, db)
