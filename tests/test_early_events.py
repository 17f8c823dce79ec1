"""What is handled before that which it belongs to counts as much as if it had come after."""

import pytest

from tests.inbox import add, process
from tests.stories import shipped_handlers

OURS = "https://hooks.example.com/webhooks/telephony/events?call_id=attempt-1&campaign_id=spring"
VAPI = {"source": "vapi", "provider": "vapi", "subject": "call/v1"}


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


def test_a_report_after_the_campaigns_end_tells_its_time_better(db):
    call = {"id": "v1", "campaignId": "autumn"}
    ended = {"call": call, "endedReason": "customer-ended-call"}
    add(db, "call.completed", payload=ended, occurred_at="2024-05-06 10:00:51 UTC", **VAPI)
    process(db)

    report = {**ended, "endedAt": "2024-05-06T10:00:50.950Z"}
    add(db, "call.report", payload=report, occurred_at="2024-05-06 10:00:55 UTC", **VAPI)
    process(db)

    found = db.execute("SELECT status, completed_at = '2024-05-06 10:00:50.950 UTC' FROM campaigns").fetchall()
    assert found == [("COMPLETED", True)]
