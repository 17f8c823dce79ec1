"""Deliveries that have arrived: named by their provider's module as the receiver does it, put into the table."""

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import psycopg
import pytest
from psycopg import Connection

from processor import registry
from processor.event import Event
from receiver.delivery import Delivery, Identity
from receiver.providers import PROVIDERS
from tests.conftest import empty
from tests.http_receiver import FORM, JSON
from tests.inbox import add
from tests.vector_cases import body_of, samples, target_of

RECEIVED_AT = datetime(2026, 11, 20, 12, tzinfo=UTC)

EMPTY = b"""
    DELETE FROM webhook_events; DELETE FROM call_events; DELETE FROM webhook_duplicates;
    DELETE FROM webhook_expectations;
    DELETE FROM webhook_attempts; DELETE FROM webhook_breakers; DELETE FROM dialogues; DELETE FROM call_attempts;
    DELETE FROM contacts; DELETE FROM calls; DELETE FROM campaigns; DELETE FROM messages; DELETE FROM reminders;
    SELECT setval(pg_get_serial_sequence('webhook_events', 'id'), 1, false)
"""


@pytest.fixture(scope="module")
def connection(session_database):
    empty(session_database)
    with psycopg.connect(session_database, autocommit=True) as conn:
        conn.execute("SET synchronous_commit = off")
        yield conn
    empty(session_database)


@pytest.fixture
def db(connection):
    """Connection to tables without rows, ids counting from 1: emptied ten times as fast as conftest's."""
    connection.execute(EMPTY)
    return connection


@pytest.fixture
def shipped(monkeypatch):
    """Let the handlers that ship with the inbox run, and no others: other tests register theirs for good."""
    registry.load(["handlers"])
    ours = [one for one in registry.HANDLERS if one.function.__module__.startswith("handlers.")]
    monkeypatch.setattr(registry, "HANDLERS", ours)


def sample(provider: str, name: str, **changes: Any) -> Delivery:
    """Return one of the vectors' requests, fields of its JSON changed."""
    (found,) = [one["request"] for one in samples(provider) if one["id"] == name]
    body = body_of(found)
    if changes:
        body = json.dumps({**json.loads(body), **changes}).encode()
    headers = {header.lower(): value for header, value in found["headers"].items()}
    return Delivery(found["method"], "https://hooks.example.com", target_of(found), headers, body)


def sent(payload: Any, target: str = "/webhooks/x") -> Delivery:
    """Return a delivery of JSON."""
    return Delivery("POST", "https://hooks.example.com", target, JSON, json.dumps(payload).encode())


def form(fields: dict[str, str], target: str = "/webhooks/twilio/sms/status") -> Delivery:
    """Return a delivery of a form."""
    return Delivery("POST", "https://hooks.example.com", target, FORM, urlencode(fields).encode())


def identities(provider: str, delivery: Delivery) -> list[Identity]:
    adapter = PROVIDERS[provider]
    return list(adapter.identify(delivery, adapter.Options()))


def events(provider: str, delivery: Delivery) -> list[Event]:
    """Return what a delivery holds, as handlers see it; ids count from 1."""
    return [
        Event(
            number, "default", provider, provider, one.event_id, one.event_type, one.provider_type, one.subject,
            delivery.method, delivery.url, dict(delivery.headers), delivery.body,
            None if one.payload is None else json.loads(one.payload), one.parse_error, one.occurred_at, RECEIVED_AT,
            attempt=1, replays=0,
        )
        for number, one in enumerate(identities(provider, delivery), 1)
    ]  # fmt: skip


def arrive(conn: Connection, provider: str, *deliveries: Delivery, **columns: Any) -> list[int]:
    """Store the deliveries' events, and return their ids."""
    return [
        add(
            conn, one.event_type, payload=json.loads(one.payload or "null"), **{
                "source": provider, "provider": provider, "event_id": one.event_id, "provider_type": one.provider_type,
                "subject": one.subject, "occurred_at": one.occurred_at, "url": delivery.url,
                "body": delivery.body, **columns,
            },
        )
        for delivery in deliveries
        for one in identities(provider, delivery)
    ]  # fmt: skip
