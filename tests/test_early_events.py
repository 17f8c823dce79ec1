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


@pytest.mark.parametrize("other", ["call.ringing", "call.answered"])
def test_in_both_orders_a_call_has_one_time_of_its_state_and_of_its_last_status(db, other):
    told = [("call.ringing", "10:00:20+00"), (other, "10:00:10+00")]
    for number, order in enumerate([told, told[::-1]]):
        for event_type, clock in order:
            add(db, event_type, subject=f"call/CA{number}", occurred_at=f"2026-11-03 {clock}")
            process(db)
    db.execute("UPDATE webhook_events SET processed_at = NULL WHERE occurred_at = '2026-11-03 10:00:20+00'")
    process(db)

    found = db.execute("SELECT state, to_char(occurred_at, 'SS'), to_char(last_status_at, 'SS') FROM calls").fetchall()
    assert found == [(other.removeprefix("call."), "10", "20")] * 2


def test_a_call_may_turn_out_to_be_of_another_campaign_that_nobody_has_made(db):
    add(db, "call.ringing", subject="call/CA1", url=OURS)
    add(db, "call.completed", subject="call/CA1", url=OURS.replace("spring", "autumn"))
    process(db)

    assert db.execute("SELECT state, campaign_id FROM calls").fetchall() == [("completed", "autumn")]
