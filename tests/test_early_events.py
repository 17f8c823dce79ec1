"""What is handled before that which it belongs to counts as much as if it had come after."""

import pytest

from tests.inbox import add, process
from tests.stories import shipped_handlers

OURS = "https://hooks.example.com/webhooks/telephony/events?call_id=attempt-1&campaign_id=spring"


@pytest.fixture(autouse=True)
def handlers(monkeypatch):
    with shipped_handlers(monkeypatch):
        yield


def test_a_recording_before_its_attempt_is_among_the_attempts_types(db):
    recorded = {"CallSid": "CA1", "RecordingUrl": "https://api.twilio.com/r"}
    add(db, "recording.completed", subject="recording/RE1", payload=recorded)
    process(db)

    add(db, "call.completed", subject="call/CA1", url=OURS)
    process(db)

    found = db.execute("SELECT processed_types, recording_url FROM call_attempts").fetchall()
    assert found == [(["call.completed", "call.recording"], "https://api.twilio.com/r")]
