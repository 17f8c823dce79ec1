"""What is signed is kept, whatever it says: as a row with a payload, or as a dead letter that says why."""

import json

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.http_receiver import duplicates, rows
from tests.receiver_fixtures import AGENT_SECRET, connection, db, receiver, start
from tests.signing import JSON_SENDERS, agent, agent_signature, reminder, twilio_json

__all__ = ["connection", "db", "receiver", "start"]

KEPT = {  # JSON that jsonb can hold
    "escaped NUL": rb'{"a":"\u0000"}',
    "escaped NUL in a name": rb'{"\u0000":1}',
    "half a surrogate pair": rb'{"a":"\ud800"}',
    "a surrogate pair": rb'{"a":"\ud83d\ude00"}',
    "5,000 digits": b'{"a":' + b"1" * 5000 + b"}",
    "5,000 decimals": b'{"a":0.' + b"1" * 5000 + b"}",
    "200 arrays": b'{"a":' + b"[" * 200 + b"]" * 200 + b"}",
    "a repeated name": b'{"type":"a","type":"b"}',
    "byte order mark": b'\xef\xbb\xbf{"a":1}',
    "empty object": b"{}",
    "white space": b' \r\n\t{"a":1}\n',
    "wrong types": b'{"message":1,"event_type":[],"reminder_id":{},"call_id":true,"state":{},"id":null,"type":2}',
    "wrong types inside": b'{"message":{"type":[],"call":[1],"timestamp":{}}}',
    "ids of wrong types": b'{"event_id":{"a":1},"id":[1],"call_id":false,"state":"ringing"}',
    "ids of 4,000 characters": b'{"event_id":"%s","id":"%s","reminder_id":"%s"}' % ((b"x" * 4000,) * 3),
    "an id of NULs": rb'{"event_id":"\u0000\u0000","id":"a\u0000","reminder_id":"\u0000"}',
    "a type of 10 KB": b'{"event_type":"%s","type":"%s","state":"%s"}' % ((b"t" * 10_000,) * 3),
    "a type that is a path": b'{"event_type":"../../etc/passwd","type":"../x","state":"__class__"}',
    "a type that is SQL": b'{"event_type":"\'; DROP TABLE webhook_events; --","reminder_id":"\' OR 1=1"}',
    "a type that formats": b'{"event_type":"%(body)s {0.__class__} %s","reminder_id":"%n"}',
}
DEAD = {  # what isn't JSON, or isn't JSON that anyone's table can hold
    "one brace": b"{",
    "two values": b"{}{}",
    "trailing comma": b'{"a":1,}',
    "single quotes": b"{'a':1}",
    "a comment": b"{}//",
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":-Infinity}',
    "10^131072": b'{"a":1e131072}',
    "300 arrays": b'{"a":' + b"[" * 300 + b"]" * 300 + b"}",
    "10,000 objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "100,000 arrays": b"[" * 100_000,
    "50,000 arrays, closed": b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "UTF-16 without a mark": '{"a":1}'.encode("utf-16-le"),
    "not UTF-8": b'{"a":"\xff"}',
    "surrogates in UTF-8": b'{"a":"\xed\xa0\x80"}',
    "raw control character": b'{"a":"\x00"}',
    "NUL": b"\0",
    "text": b'"x"',
    "number": b"1",
    "null": b"null",
    "true": b"true",
    "empty array": b"[]",
    "array of numbers": b"[1]",
    "form": b"a=1&b=2",
    "XML": b"<a/>",
    "zip": b"PK\x03\x04" + bytes(range(256)),
}
UNDECIDED = {  # beyond a float: jsonb takes such a number where the body's text is the payload, not in a batch
    "1e400": b'{"a":1e400}',
    "1e5000": b'{"a":1e5000}',
    "1e-20000": b'{"a":1e-20000}',
    "NUL and 1e400": rb'{"a":"\u0000","b":1e400}',
}
SILENT = (b"", b"{}", b'<?xml version="1.0" encoding="UTF-8"?><Response/>')
CASES = KEPT | DEAD | UNDECIDED


@pytest.fixture(autouse=True)
def alive(receiver):
    """Whatever a test sent, the next valid delivery is stored."""
    yield
    assert reminder("the next").to(receiver).status == 200


def assert_kept_or_dead(row, sent):
    assert row.body == sent.body
    assert (row.payload is None) == (row.parse_error is not None) == (row.dead_at is not None)
    assert row.last_error == row.parse_error


@pytest.mark.parametrize("sender", JSON_SENDERS)
@pytest.mark.parametrize("name", CASES)
def test_signed_bytes_are_stored(name, sender, receiver, db):
    sent = JSON_SENDERS[sender](CASES[name])

    reply = sent.to(receiver)

    assert (reply.status, reply.body in SILENT) == (200, True)
    (row,) = rows(db)
    assert_kept_or_dead(row, sent)
    assert name in UNDECIDED or (row.dead_at is not None) == (name in DEAD)


@pytest.mark.parametrize("sender", ["agent", "vapi", "dialpad"])
def test_an_empty_body_is_a_dead_letter(sender, receiver, db):
    assert JSON_SENDERS[sender](b"").to(receiver).status == 200

    assert [row.dead_at is not None for row in rows(db)] == [True]


@pytest.mark.parametrize("sender", JSON_SENDERS)
@hypothesis_settings(
    max_examples=25, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=st.binary(max_size=100) | st.text(max_size=30).map(str.encode))
def test_any_signed_bytes_are_stored(sender, receiver, db, body):
    db.execute("DELETE FROM webhook_events")
    sent = JSON_SENDERS[sender](body)

    assert sent.to(receiver).status == 200

    (row,) = rows(db)
    assert_kept_or_dead(row, sent)


def test_a_dead_letter_says_why_without_the_body(receiver, db):
    agent(b'{"phone": "+15555550100" oops').to(receiver)

    assert [row.last_error for row in rows(db)] == ["agent: expected JSON, got Expecting ',' delimiter at position 25"]


def test_dead_letters_of_the_same_bytes_are_one(receiver, db):
    for body in (b"{", b"{", b"["):
        agent(body).to(receiver)

    assert (len(rows(db)), len(duplicates(db))) == (2, 1)


def test_of_repeated_names_the_last_counts_for_the_type_and_in_the_payload(receiver, db):
    agent(b'{"reminder_id":"r","event_type":"call_failed","event_type":"call_completed"}').to(receiver)

    assert [(row.event_type, row.payload["event_type"]) for row in rows(db)] == [("call.completed", "call_completed")]


def test_a_number_beyond_float_is_kept_to_its_digits(receiver, db):
    agent(b'{"a":1e400,"b":12345678901234567890.123}').to(receiver)

    assert db.execute("SELECT payload ->> 'a', payload ->> 'b' FROM webhook_events").fetchone() == (
        "1" + "0" * 400,
        "12345678901234567890.123",
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [("a", "A"), ("a", "a "), ("é", "e\u0301"), ("a:b", "a_b"), ("x" * 3000, "x" * 3001), ("1", "01")],
    ids=["case", "space", "normal form", "colon", "long", "zero"],
)
def test_ids_that_differ_at_all_are_two_events(first, second, receiver, db):
    for event_id in (first, second):
        assert reminder(1, event_id=event_id).to(receiver).status == 200

    assert len(rows(db)) == 2


def test_an_id_as_number_and_as_text_is_one_event(receiver, db):
    reminder(1, event_id=1).to(receiver)
    reminder(1, event_id="1").to(receiver)

    assert [row.event_id for row in rows(db)] == ["1"]


@pytest.mark.parametrize("event_id", [None, "", {}, [], True, 1.5])
def test_an_id_that_is_none_leaves_the_key_to_the_body(event_id, receiver, db):
    for outcome in ("a", "b", "a"):
        reminder(1, event_id=event_id, outcome=outcome).to(receiver)

    assert (len(rows(db)), len(duplicates(db))) == (2, 1)


@pytest.mark.parametrize("time", ["now", "0000-01-01", "", 1e30, -1e30, "1" * 30, [], True, "9999-12-31T23:59:59-14"])
def test_a_time_that_is_none_is_null(time, receiver, db):
    assert reminder(1, timestamp=time).to(receiver).status == 200

    assert [row.occurred_at for row in rows(db)] == [None]


@pytest.mark.parametrize("text", ["\U0001f468\u200d\U0001f469", "\u202eevil", "\x1b[2J", "\ufeff", "Z\u0351", "\uffff"])
def test_any_text_comes_back_as_it_was(text, receiver, db):
    body = json.dumps({"reminder_id": text, "event_type": text, "notes": text}, ensure_ascii=False).encode()

    assert agent(body).to(receiver).status == 200

    assert [(row.body, row.provider_type, row.payload["notes"]) for row in rows(db)] == [(body, text, text)]


def test_an_event_streams_batch_keeps_its_good_events(receiver, db):
    twilio_json(b'[{"id":"EZ1","type":"com.twilio.messaging.message.sent"},7,null]').to(receiver)

    assert [row.event_id for row in rows(db) if row.dead_at is None] == ["EZ1"]
    assert [row.dead_at is None for row in rows(db)] == [True, False, False]


def test_a_million_elements_are_one_dead_letter(start, db):
    body = b"[" + b"0," * 1_000_000 + b"0]"
    source = {"name": "big", "provider": "agent", "secrets": ["env:SECRET"], "max_body": 5 * 1024 * 1024}

    reply = start([source], {"SECRET": AGENT_SECRET}).send(
        "POST", "/webhooks/big", {"x-webhook-signature": agent_signature(body)}, body
    )

    assert (reply.status, [row.dead_at is not None for row in rows(db)]) == (200, [True])
