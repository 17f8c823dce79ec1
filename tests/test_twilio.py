"""Twilio: our verification equals its SDK's, and our form parser urllib's, by property."""

from dataclasses import replace
from urllib.parse import parse_qsl, quote_plus, urlencode

import pytest
from hypothesis import assume, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator, get_signature_algorithm

from receiver.delivery import BadSignature, Delivery
from receiver.providers import twilio
from receiver.providers.twilio_events import KINDS
from receiver.providers.twilio_events import Form as Request
from receiver.providers.twilio_form import fields_of, parse_form, read_any_form, read_form
from receiver.providers.twilio_plain import plain_fields
from receiver.settings import public_url
from tests.http_receiver import FORM, rows
from tests.receiver_fixtures import BASE_URL, TOKEN, connection, db, receiver, start
from tests.signing import Form, twilio_json, twilio_signature
from tests.signing import twilio as signed_form

__all__ = ["connection", "db", "receiver", "start"]

NO_OPTIONS = twilio.Options()
SHARED_KEY = "a-shared-key-of-32-characters-it-is"
quick = hypothesis_settings(max_examples=300, deadline=None, database=None)

hosts = st.sampled_from(["example.com", "Hooks.Example.com", "localhost", "127.0.0.1", "xn--bcher-kva.example"])
ports = st.one_of(st.just(""), st.sampled_from([":80", ":443", ":8443"]), st.integers(1, 65535).map(":{}".format))
prefixes = st.sampled_from(["", "/", "/hooks", "/a/b/"])
bases = st.builds("{}://{}{}{}".format, st.sampled_from(["http", "https"]), hosts, ports, prefixes)
# Without ";": the SDK takes a URL apart and joins it again, which drops one at the path's end. We don't.
text_in_url = st.text("abcXYZ019-._~!$&'()*+,=:@/%[]", max_size=20)
targets = st.builds("/{}{}".format, text_in_url, st.one_of(st.just(""), text_in_url.filter(bool).map("?{}".format)))
words = st.one_of(st.text(max_size=8), st.sampled_from(["", " ", "+", "%2B", "&", "=", "a=b&c", "é", "\U0001f600"]))
forms = st.lists(st.tuples(words, words), max_size=6)
PIECES = ["a", "b", "41", "B", "&", "=", "+", "%", "%2B", "%2b", "%3A", "%2F", "%2C", "%26", "%3D", "%25", "%C3%A9",
          "%ff", "%00", "\0", "é"]  # fmt: skip


def accepted(base_url, target, body, signature, headers=FORM, *, options=NO_OPTIONS):
    delivery = Delivery("POST", public_url(base_url), target, headers | {"x-twilio-signature": signature}, body)
    try:
        twilio.verify(delivery, TOKEN.encode(), options, 0.0)
    except BadSignature:
        return False
    return True


@quick
@given(bases, bases, targets, forms, forms)
def test_a_form_is_accepted_just_when_the_sdk_accepts_it(base, other_base, target, pairs, other_pairs):
    url = public_url(base) + target
    bare = url.replace(f":{port_of(base)}", "", 1)
    elsewhere = public_url(other_base) + target

    for signed_url, signed_pairs in ((url, pairs), (bare, pairs), (url, other_pairs), (elsewhere, pairs)):
        signature = twilio_signature(signed_url, signed_pairs)
        expected = RequestValidator(TOKEN).validate(url, Form(pairs), signature)

        assert accepted(base, target, urlencode(pairs).encode(), signature) == expected


def port_of(base):
    return base.split("/")[2].partition(":")[2] or "none"


@quick
@given(bases, targets, forms)
def test_what_the_sdk_signs_is_accepted_in_any_order_and_encoding(base, target, pairs):
    signature = twilio_signature(public_url(base) + target, pairs)
    spelt_out = "&".join("=".join("".join(f"%{byte:02x}" for byte in text.encode()) for text in pair) for pair in pairs)

    assert accepted(base, target, urlencode(pairs[::-1]).encode(), signature)
    assert accepted(base, target, spelt_out.encode(), signature)


@quick
@given(bases, targets, forms, st.text(max_size=40))
def test_a_wrong_signature_is_refused(base, target, pairs, signature):
    assert not accepted(base, target, urlencode(pairs).encode(), signature)


@quick
@given(bases, targets, forms, st.sampled_from(["sha1", "sha256"]), st.sampled_from(["sha1", "sha256"]))
def test_a_signature_counts_by_the_sources_algorithm_alone(base, target, pairs, made_by, expected):
    """As get_signature_algorithm and RequestValidator of twilio-python 9.13.0 (request_validator.py) make them."""
    header = f"key=webhooks_sharedkey_1,algorithm=HMAC_{made_by.upper()}"
    signer = RequestValidator(TOKEN)
    signature = signer.compute_signature(public_url(base) + target, Form(pairs), get_signature_algorithm(header))
    sent = FORM | {"x-twilio-webhooks-signature-settings": header}
    options = twilio.Options(algorithm=expected)

    assert accepted(base, target, urlencode(pairs).encode(), signature, sent, options=options) == (made_by == expected)


def test_what_is_signed_with_a_shared_key_by_sha256_is_stored(start, db):
    source = {"name": "shared", "provider": "twilio", "secrets": ["env:SHARED_KEY"], "algorithm": "sha256"}
    signature = RequestValidator(SHARED_KEY).compute_signature(
        f"{BASE_URL}/webhooks/shared", {"CallSid": "CA1"}, "HMAC_SHA256"
    )
    receiver = start([source], {"SHARED_KEY": SHARED_KEY, "BASE_URL": BASE_URL})

    reply = receiver.send("POST", "/webhooks/shared", FORM | {"x-twilio-signature": signature}, b"CallSid=CA1")

    assert (reply.status, [row.body for row in rows(db)]) == (200, [b"CallSid=CA1"])


@quick
@given(st.binary(max_size=200), st.binary(max_size=200))
def test_other_bodies_are_covered_by_their_digest_in_the_url(body, other):
    assume(body and other and body != other)
    sent = twilio_json(body)
    signature = sent.headers["x-twilio-signature"]

    assert accepted(BASE_URL, sent.target, body, signature, sent.headers)
    assert not accepted(BASE_URL, sent.target, other, signature, sent.headers)


@quick
@given(st.text("ab&=+%04cC3aAfF;é\0 \U0001f600", max_size=40))
@example("a=1&a=1&&=&b&c==d&%zz=%&;=;")
def test_a_form_is_parsed_as_urllib_parses_it(text):
    pairs = parse_form(text.encode())
    try:
        decoded = [(name.decode(), value.decode()) for name, value in pairs]
    except UnicodeDecodeError:
        assume(False)

    assert decoded == parse_qsl(text, keep_blank_values=True)


@quick
@given(
    st.one_of(
        st.lists(st.sampled_from(PIECES), max_size=12).map("".join),
        forms.map(urlencode),
        st.text("ab&=+%0248BCFcf;é\0\U0001f600", max_size=40),
    ).map(str.encode)
)
@example(b"a=%252B&b=%%2B41&c=%4%2C1&d=%2%2BB")
@example(b"%61=1&a=2")
@example(b"a=%F0%9F%98%80&%EF%BF%BF=1")
def test_a_form_that_is_read_as_text_is_read_as_byte_by_byte(encoded):
    assert read_form(encoded) == read_any_form(encoded)


def test_what_twilio_sends_is_read_as_text():
    sent = {"CallSid": "CA1", "From": "+15555550100", "City": "SAN FRANCISCO", "Body": "ça va? 50% & more", "Zip": "",
            "Timestamp": "Fri, 20 Nov 2026 10:00:00 +0000", "Url": "https://api.twilio.com/a?b=c"}  # fmt: skip

    assert plain_fields(urlencode(sent).encode()) == sent


def test_a_small_form_is_parsed_once_and_a_changed_one_again():
    delivery = Delivery("POST", BASE_URL, "/", FORM, b"a=1")

    assert fields_of(delivery) is fields_of(delivery.proven("secret"))
    assert fields_of(replace(delivery, body=b"a=2")).values == {"a": "2"}


OTHERS = {"CallStatus", "RecordingStatus", "TranscriptionEvent", "StreamEvent", "Sid", "Level", "From", "To"}
FIELDS = st.sampled_from(sorted({field for field, _ in KINDS} | OTHERS))


@quick
@given(st.dictionaries(FIELDS, st.sampled_from(["x", "ringing", "completed"])))
def test_no_request_is_of_a_kind_whose_field_it_lacks(values):
    delivery = Delivery("POST", BASE_URL, "/", FORM, urlencode(values).encode())
    request = Request(delivery, fields_of(delivery))

    for kind in {kind for _, kind in KINDS}:
        if not {field for field, one in KINDS if one is kind} & values.keys():
            assert kind(request) is None


@pytest.mark.parametrize("query", ["a=%2f", "a=%2F", "b=1&a=2", quote_plus("é ü"), "a=it's", "%3F=?"])
def test_the_query_is_signed_as_it_was_sent(query, receiver):
    assert signed_form([("CallSid", "CA1")], f"/webhooks/twilio?{query}").to(receiver).status == 200
