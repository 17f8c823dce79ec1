"""Dialpad: our JWT check equals PyJWT's with HS256 alone, and what a signed token holds is kept whatever it is."""

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256, sha512

import jwt
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from receiver.delivery import BadSignature, Delivery
from receiver.providers import dialpad
from tests.http_receiver import duplicates, rows
from tests.receiver_fixtures import DIALPAD_SECRET, connection, db, receiver, start
from tests.signing import Signed
from tests.signing import dialpad as token_of

__all__ = ["connection", "db", "receiver", "start"]

SECRET = DIALPAD_SECRET.encode()
EVENT = b'{"call_id": 5314479320940544, "state": "ringing", "event_timestamp": 1795168800900}'

values = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists, max_leaves=3)
algorithms = st.sampled_from(["HS256", "none", "None", "hs256", "HS512", "RS256", "ES256", "", ["HS256"], None, 256])
headers = st.fixed_dictionaries(
    {},
    optional={
        "alg": st.one_of(st.just("HS256"), algorithms),
        "typ": values,
        "kid": st.text(max_size=5),
        "jku": st.just("https://evil.example/keys"),
        "crit": st.sampled_from([["exp"], ["b64"], [], "exp"]),
        "b64": st.just(False),
    },
)


def encoded(raw):
    return urlsafe_b64encode(raw).rstrip(b"=")


def made(header, payload=EVENT, secret=SECRET, digest=sha256):
    """Return a JWT of any header, signed with HMAC whatever the header says."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    signed = encoded(text) + b"." + encoded(payload)
    return signed + b"." + encoded(hmac.new(secret, signed, digest).digest())


def accepted(token):
    try:
        dialpad.verify(Delivery("POST", "", "/", {}, token), SECRET, dialpad.Options(), 0.0)
    except BadSignature:
        return False
    return True


def accepted_by_pyjwt(token):
    try:
        jwt.PyJWS().decode(token, SECRET, algorithms=["HS256"])
    except jwt.InvalidTokenError:
        return False
    return True


def canonical(token):
    """Tell whether each segment is the one way to write its bytes; PyJWT takes several, which we don't."""
    return all(encoded(urlsafe_b64decode(part + b"==")) == part for part in token.split(b"."))


quick = hypothesis_settings(max_examples=300, deadline=None, database=None)


@quick
@given(st.one_of(headers, headers.map(lambda header: {**header, "alg": "HS256"})), st.binary(max_size=50))
@example({"alg": "HS256"}, b"")
@example({"alg": "HS256", "typ": "JWT"}, EVENT)
def test_a_signed_token_is_accepted_just_when_pyjwt_accepts_it(header, payload):
    token = made(header, payload)

    assert accepted(token) == accepted_by_pyjwt(token)


@quick
@given(st.binary(max_size=20) | values.map(lambda value: json.dumps(value).encode()))
def test_a_header_that_is_no_object_is_refused_as_pyjwt_does(header):
    token = made(header)

    assert accepted(token) == accepted_by_pyjwt(token)


@quick
@given(st.data())
def test_a_changed_token_is_refused_as_pyjwt_does(data):
    token = made({"alg": "HS256", "typ": "JWT"})
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from([bytes([code]) for code in b"Aa-_.=+/\n \0\xff"] + [b"", b"..", token]))
    changed = token[:place] + other + token[place + 1 :]

    if changed.strip(b" \n") != token:
        assert not accepted(changed)
    if changed.count(b".") == 2 and not set(changed) & set(b"=+/\n \0\xff") and canonical(changed):
        assert accepted(changed) == accepted_by_pyjwt(changed)


@pytest.mark.parametrize(
    "header",
    [
        *({"alg": name} for name in ("none", "None", "hs256", "HS512", "ES256", ["HS256"], None)),
        {},
        {"alg": "HS256", "crit": ["exp"]},
        {"alg": "HS256", "crit": ["b64"], "b64": False},
        {"alg": "HS256", "b64": False},
    ],
    ids=str,
)
def test_any_other_algorithm_or_an_extension_is_refused(header, receiver, db):
    reply = Signed("/webhooks/dialpad", made(header)).to(receiver)

    assert (reply.status, reply.body, rows(db)) == (401, b"", [])


def test_the_algorithm_is_not_taken_from_the_token(receiver, db):
    for header, digest in (({"alg": "HS512"}, sha512), ({"alg": "HS256"}, sha512)):
        assert Signed("/webhooks/dialpad", made(header, digest=digest)).to(receiver).status == 401
    unsigned = encoded(b'{"alg":"none"}') + b"." + encoded(EVENT) + b"."
    assert Signed("/webhooks/dialpad", unsigned).to(receiver).status == 401
    assert rows(db) == []


@pytest.mark.parametrize("secret", [b"", b"\0", b"-----BEGIN PUBLIC KEY-----\n", DIALPAD_SECRET.encode() + b"\n"])
def test_another_secret_is_refused(secret, receiver, db):
    reply = Signed("/webhooks/dialpad", made({"alg": "HS256"}, secret=secret)).to(receiver)

    assert (reply.status, rows(db)) == (401, [])


@pytest.mark.parametrize(
    "extra", [{"kid": "../../dev/null"}, {"jku": "https://evil.example/k"}, {"x5u": "file:///etc/passwd"}]
)
def test_where_a_key_is_said_to_be_is_not_looked_at(extra, receiver, db):
    reply = Signed("/webhooks/dialpad", made({"alg": "HS256", **extra})).to(receiver)

    assert (reply.status, len(rows(db))) == (200, 1)


@pytest.mark.parametrize("claims", [{}, {"iat": 4102444800}, {"iat": 1, "exp": 2}, {"nbf": 4102444800}], ids=str)
def test_no_claim_about_time_is_required_or_believed(claims, receiver, db):
    payload = json.dumps({**json.loads(EVENT), **claims}).encode()

    assert token_of(payload).to(receiver).status == 200
    assert token_of(payload).to(receiver).status == 200

    assert (len(rows(db)), len(duplicates(db))) == (1, 1)


@pytest.mark.parametrize(
    "change",
    [
        lambda token: b'"' + token + b'"',
        lambda token: b"Bearer " + token,
        lambda token: token.replace(b".", b"\n.", 1),
        lambda token: token[:50] + b"\n" + token[50:],
        lambda token: token + b"=",
        lambda token: token + b".",
        lambda token: token + b".e30",
        lambda token: token.rpartition(b".")[0],
        lambda token: token.partition(b".")[2],
        lambda token: token.replace(b".", b"=.", 1),
        lambda token: token.replace(b".", b".."),
        lambda token: b"." + token,
        lambda token: token[:-1],
        lambda token: token + b"A",
        lambda token: b"\xef\xbb\xbf" + token,
    ],
)
def test_another_spelling_of_a_token_is_refused(change, receiver, db):
    reply = Signed("/webhooks/dialpad", change(token_of(EVENT).body)).to(receiver)

    assert (reply.status, rows(db)) == (401, [])


def test_a_secret_too_short_for_hs256_is_warned_of_at_the_start(start, caplog):
    start(
        [{"name": "short", "provider": "dialpad", "secrets": ["env:SHORT"]}],
        {"SHORT": "31-characters-of-a-short-secret"},
    )

    assert "secret short source=short secret=env:SHORT; expected 32 bytes or more" in caplog.text
    assert "31-characters" not in caplog.text


def test_plain_json_is_no_fallback_where_a_secret_is_set(receiver, db):
    assert Signed("/webhooks/dialpad", EVENT).to(receiver).status == 401
    assert rows(db) == []


def test_a_source_that_says_insecure_takes_plain_json(start, db):
    source = {"name": "plain", "provider": "dialpad", "insecure": True}

    reply = Signed("/webhooks/plain", EVENT).to(start([source], {}))

    assert reply.status == 200
    assert [row.event_id for row in rows(db)] == ["5314479320940544:ringing:1795168800900"]


def test_ids_beyond_a_floats_precision_keep_every_digit(receiver, db):
    token_of(EVENT.replace(b"5314479320940544", b"9223372036854775807")).to(receiver)

    assert [row.subject for row in rows(db)] == ["call/9223372036854775807"]
