"""Twilio's forms, in every shape that a signature can cover."""

from dataclasses import replace

import pytest
from twilio.request_validator import RequestValidator

from tests.http_receiver import duplicates, rows
from tests.receiver_fixtures import BASE_URL, TOKEN, connection, db, receiver, start
from tests.signing import twilio, twilio_bytes, twilio_json, twilio_signature

__all__ = ["connection", "db", "receiver", "start"]

CALL = ("CallSid", "CA1")


@pytest.mark.parametrize(
    ("body", "signed", "payload"),
    [
        (b"CallerCity=&To=%2B1", b"CallerCityTo+1", {"CallerCity": "", "To": "+1"}),
        (b"A=2&A=1", b"A1A2", {"A": ["2", "1"]}),
        (b"A=1&A=1", b"A1", {"A": ["1", "1"]}),
        (b"b=1&B=2", b"B2b1", {"b": "1", "B": "2"}),
        (b"a=%zz&b=%", b"a%zzb%", {"a": "%zz", "b": "%"}),
        (b"a=%ff", b"a\xff", {"a": "\ufffd"}),
        (b"a=\xff", b"a\xff", {"a": "\ufffd"}),
        (b"a=%00", b"a\0", {"a": "\ufffd"}),
        (b"a=1;b=2", b"a1;b=2", {"a": "1;b=2"}),
        (b"a=1+2%20%2B", b"a1 2 +", {"a": "1 2 +"}),
        (b"&&a&=b&=", b"ba", {"a": "", "": ["b", ""]}),
        (b"a=%ed%a0%80", b"a\xed\xa0\x80", {"a": "\ufffd" * 3}),
        (b"a=" + "é".encode(), "aé".encode(), {"a": "é"}),
    ],
    ids=lambda value: value.decode("latin-1") if isinstance(value, bytes) else "",
)
def test_a_signed_form_is_kept_as_it_was_and_read_as_text(body, signed, payload, receiver, db):
    assert twilio_bytes(body, signed).to(receiver).status == 200

    assert [(row.body, row.payload) for row in rows(db)] == [(body, payload)]


@pytest.mark.parametrize("signed", [b"A2A1", b"A1", b"", b"A=2&A=1"])
def test_fields_signed_in_another_way_are_refused(signed, receiver, db):
    reply = twilio_bytes(b"A=2&A=1", signed).to(receiver)

    assert (reply.status, reply.body, rows(db)) == (401, b"", [])


@pytest.mark.parametrize("count", [1001, 50_000])
def test_more_fields_than_any_provider_sends_are_a_dead_letter(count, receiver, db):
    body = b"&".join(b"f%06d=1" % number for number in range(count))

    assert twilio_bytes(body, body.replace(b"&", b"").replace(b"=", b"")).to(receiver).status == 200

    assert [row.last_error for row in rows(db)] == [f"twilio: expected at most 1000 form fields, got {count}"]


def test_that_many_unsigned_fields_are_refused(receiver, db):
    reply = twilio_bytes(b"a&" * 100_000, b"").to(receiver)

    assert (reply.status, rows(db)) == (401, [])


def test_a_charset_is_not_believed(receiver, db):
    body = b"Body=%C3%A9"

    sent = twilio_bytes(body, b"Body\xc3\xa9", **{"content-type": "Application/X-WWW-Form-URLEncoded;charset=latin-1"})

    assert sent.to(receiver).status == 200
    assert [row.payload for row in rows(db)] == [{"Body": "é"}]


@pytest.mark.parametrize(
    "media_type", ["application/json", "text/plain", "multipart/form-data", "multipart/form-data; boundary=x", "", "x"]
)
def test_a_forms_signature_proves_nothing_of_another_media_type(media_type, receiver, db):
    reply = twilio([CALL]).to(receiver, content_type=media_type)

    assert (reply.status, rows(db)) == (401, [])


def test_a_body_covered_by_its_digest_may_be_of_any_media_type_but_form(receiver, db):
    sent = twilio_json(b"CallSid=CA1")

    assert sent.to(receiver, content_type="text/plain").status == 200
    assert sent.to(receiver, content_type=None).status == 200
    assert sent.to(receiver, content_type="application/x-www-form-urlencoded").status == 401

    assert [row.dead_at is not None for row in rows(db)] == [True]
    assert len(duplicates(db)) == 1


DIGEST = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"  # of b"hello world"


@pytest.mark.parametrize(
    ("query", "status"),
    [
        (f"?bodySHA256={DIGEST}", 200),
        (f"?a=1&bodySHA256={DIGEST}&b=2", 200),
        (f"?bodySHA256={DIGEST.upper()}", 401),
        (f"?bodySHA256={'0' * 64}", 401),
        ("?bodySHA256=", 401),
        ("?bodySHA256=%ff", 401),
        (f"?bodysha256={DIGEST}", 401),
        (f"?bodySHA256={DIGEST}&bodySHA256={DIGEST}", 401),
        (f"?bodySHA256={'0' * 64}&bodySHA256={DIGEST}", 401),
        ("", 401),
    ],
)
def test_a_body_digest_counts_when_it_is_right_and_there_once(query, status, receiver, db):
    target = f"/webhooks/twilio{query}"
    headers = {"content-type": "application/json", "x-twilio-signature": twilio_signature(BASE_URL + target)}

    assert receiver.send("POST", target, headers, b"hello world").status == status


@pytest.mark.parametrize(
    ("sent", "named", "status"),
    [(b'{"a":1}', b'{"a":1}', 200), (b"", b'{"a":1}', 401), (b"", b"", 200)],
    ids=["whole", "taken away", "none"],
)
def test_a_body_that_the_url_names_can_not_be_taken_away(sent, named, status, receiver, db):
    """As RequestValidator.validate(url, "", signature) has it (twilio-python 9.13.0, request_validator.py)."""
    signed = twilio_json(named)
    url = BASE_URL + signed.target
    accepted = RequestValidator(TOKEN).validate(url, sent.decode(), signed.headers["x-twilio-signature"])

    assert (replace(signed, body=sent).to(receiver).status, accepted) == (status, status == 200)


def test_fields_that_run_into_each_other_are_one_event_as_they_are_one_signature(receiver, db):
    for body in (b"A=1B2", b"A=1&B=2", b"A1=B2"):
        assert twilio_bytes(body, b"A1B2").to(receiver).status == 200

    assert [row.body for row in rows(db)] == [b"A=1B2"]
    assert [again.same_body for again in duplicates(db)] == [False, False]


def test_fields_in_another_order_are_the_same_event(receiver, db):
    for pairs in ([("A", "1"), ("B", "2")], [("B", "2"), ("A", "1")]):
        assert twilio(pairs).to(receiver).status == 200

    assert (len(rows(db)), len(duplicates(db))) == (1, 1)


@pytest.mark.parametrize("value", ["", " ", "x" * 5000, "\0", "../../x", "'; DROP TABLE x; --", "%s{0}", "a:b"])
@pytest.mark.parametrize("name", ["CallSid", "CallStatus", "MessageSid", "RecordingSid", "Timestamp", "SequenceNumber"])
def test_any_value_of_any_field_is_stored(name, value, receiver, db):
    fields = {"CallSid": "CA1", "CallStatus": "completed", "RecordingStatus": "completed", name: value}

    assert twilio(fields.items()).to(receiver).status == 200

    assert [row.dead_at for row in rows(db)] == [None]


def test_a_get_with_a_body_is_refused(receiver, db):
    target = "/webhooks/twilio?CallSid=CA1"
    headers = {"x-twilio-signature": twilio_signature(BASE_URL + target), "content-length": "1"}

    assert (receiver.send("GET", target, headers, b"x").status, rows(db)) == (401, [])
