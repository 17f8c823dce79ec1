"""What a claimed row becomes: read when a handler looks, whatever it holds; and the arrays that ask for rows."""

from dataclasses import fields, replace
from datetime import datetime
from decimal import Decimal

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.arrays import array
from processor.claim import read
from processor.event import Event
from tests.inbox import add

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@pytest.fixture
def event(db):
    (event,) = read(db, [add(db, subject="call/1", payload={"a": [1]}, headers='{"host": "x"}', body=b"\x00\xff\\x")])
    return event


@pytest.fixture(scope="module")
def server(server_dsn):
    with psycopg.connect(server_dsn, autocommit=True) as conn:
        yield conn


def test_a_claimed_row_has_every_field_of_an_event(event):
    assert {field.name: type(getattr(event, field.name)) for field in fields(Event) if field.name != "occurred_at"} == {
        "id": int, "app_id": str, "source": str, "provider": str, "event_id": str, "event_type": str,
        "provider_type": str, "subject": str, "method": str, "url": str, "headers": dict, "body": bytes,
        "payload": dict, "parse_error": type(None), "received_at": datetime, "attempt": int, "replays": int,
        "suspect": bool, "lease": type(None),
    }  # fmt: skip
    assert (event.headers, event.body, event.payload) == ({"host": "x"}, b"\x00\xff\\x", {"a": [1]})


def test_the_payload_is_read_when_it_is_looked_at_and_is_the_same_one_from_then_on(event):
    assert "payload" not in vars(event)

    event.payload["a"].append(2)

    assert event.payload == {"a": [1, 2]}


def test_an_event_that_was_not_looked_at_equals_one_that_was(db, event):
    (again,) = read(db, [event.id])
    assert event.payload == {"a": [1]}

    assert again == event == replace(again)
    assert repr(again) == repr(event)


def test_an_event_has_no_other_fields(event):
    with pytest.raises(AttributeError):
        event.payloads  # noqa: B018 - it is the look that raises


def test_a_payload_that_python_cant_hold_fails_nobody(db):
    deep, long = "[" * 5000 + "]" * 5000, "9" * 5000
    identifier = add(db)
    db.execute("UPDATE webhook_events SET payload = %s::jsonb WHERE id = %s", [deep, identifier])
    (event,) = read(db, [identifier])
    assert event.payload is None

    db.execute("UPDATE webhook_events SET payload = %s::jsonb WHERE id = %s", [long, identifier])
    (event,) = read(db, [identifier])
    assert event.payload == Decimal(long)


@given(st.lists(st.none() | TEXT))
def test_texts_are_what_they_were_on_the_server(server, texts):
    assert server.execute("SELECT %s::text[]", [array(texts)]).fetchone() == (texts,)


@given(st.lists(st.none() | st.floats(allow_nan=False)))
def test_seconds_are_what_they_were_on_the_server(server, seconds):
    assert server.execute("SELECT %s::double precision[]", [array(seconds)]).fetchone() == (seconds,)


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_ids_are_what_they_were_on_the_server(server, ids):
    assert server.execute("SELECT %s::bigint[]", [array(ids)]).fetchone() == (ids,)
