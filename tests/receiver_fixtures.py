"""Fixtures of the tests that talk to a receiver; imported by name."""

from typing import Any

import psycopg
import pytest

from receiver.settings import from_environ
from tests.http_receiver import Receiver, settings

TOKEN = "0123456789abcdef0123456789abcdef"
VAPI_SECRET = "vapi-test-secret"
DIALPAD_SECRET = "dialpad-webhook-secret-0123456789"
AGENT_SECRET = "agent-test-secret"
STANDARD_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BASE_URL = "https://hooks.example.com"

SECRETS = {
    "TWILIO": TOKEN,
    "VAPI": VAPI_SECRET,
    "DIALPAD": DIALPAD_SECRET,
    "AGENT": AGENT_SECRET,
    "STANDARD": STANDARD_SECRET,
}
TWILIO_PATHS = ("voice/status", "voice/incoming", "voice/gather", "voice/dial-done", "recording", "amd",
                "transcription", "sms/status", "sms/incoming", "debugger", "events")  # fmt: skip
SOURCES: list[dict[str, Any]] = [
    {"name": "twilio", "provider": "twilio", "secrets": ["env:TWILIO"],
     "paths": [f"/webhooks/twilio/{path}" for path in TWILIO_PATHS]},
    {"name": "twilio-voice", "provider": "twilio", "secrets": ["env:TWILIO"], "answer": {}},
    {"name": "vapi", "provider": "vapi", "secrets": ["env:VAPI"]},
    {"name": "dialpad", "provider": "dialpad", "secrets": ["env:DIALPAD"]},
    {"name": "agent", "provider": "agent", "secrets": ["env:AGENT"], "paths": ["/webhooks/voice-agent"]},
    {"name": "standard", "provider": "agent", "secrets": ["env:STANDARD"], "paths": ["/webhooks/standard-webhooks"]},
]  # fmt: skip


@pytest.fixture(scope="module")
def start(session_database, tmp_path_factory):
    """Function that starts a receiver, or returns the one that runs on the same configuration already."""
    running = {}

    def one(sources, environ, *, dsn=session_database, **options):
        known = repr((sources, environ, dsn, options))
        if known not in running:
            configured = settings(tmp_path_factory.mktemp("receiver"), dsn, sources, **environ)
            running[known] = Receiver(configured, **options)
        running[known].now = None
        return running[known]

    yield one
    for receiver in running.values():
        receiver.begin_to_stop()
    for receiver in running.values():
        receiver.stop()


@pytest.fixture(scope="module")
def twilio_defaults(session_database):
    """A receiver with the default sources of Twilio."""
    running = Receiver(
        from_environ({"DATABASE_URL": session_database, "BASE_URL": BASE_URL, "TWILIO_AUTH_TOKEN": TOKEN})
    )
    yield running
    running.stop()


@pytest.fixture(scope="module")
def connection(session_database):
    with psycopg.connect(session_database, autocommit=True) as conn:
        conn.execute("SET synchronous_commit = off")
        yield conn


@pytest.fixture
def db(connection):
    """Connection to empty tables: emptied faster than by conftest's, since ids need not begin at 1 here."""
    connection.execute("DELETE FROM webhook_events")
    connection.execute("DELETE FROM webhook_duplicates")
    return connection


@pytest.fixture
def receiver(start, db):
    """A receiver with a source of each provider, on empty tables."""
    assert db
    return start(SOURCES, {"BASE_URL": BASE_URL, **SECRETS})
