"""Incoming calls: a row from the first request on, moved by its status callbacks, and what is asked of it in views."""

from decimal import Decimal

import pytest

from handlers import call_log, calls
from processor import on, registry
from tests.inbox import add, process

BASE = {"From": "+15555550100", "To": "+15555550142", "Direction": "inbound"}


@pytest.fixture(autouse=True)
def handlers(monkeypatch):
    monkeypatch.setattr(registry, "HANDLERS", [])
    on(*calls.STATES, *calls.NOTES, provider="twilio")(call_log.keep_call)
    on("recording.completed", provider="twilio")(call_log.keep_recording)
    on("call.recording", "call.timeout", provider="inbox")(calls.keep_our_own)


def tell(db, event_type, call, at, app_id="acme", **fields):
    """Store what Twilio tells of a call, so many seconds after twelve; None: it tells no time."""
    return add(
        db, event_type, subject=f"call/{call}", app_id=app_id, payload={"CallSid": call, **BASE, **fields},
        occurred_at=None if at is None else f"2026-11-20 12:00:{at:02} UTC",
    )  # fmt: skip


def record(db, call, app_id="acme"):
    url = "https://api.twilio.com/recording"
    payload = {"CallSid": call, "RecordingSid": f"RE{call}", "RecordingUrl": url, "RecordingDuration": "41"}
    return add(db, "recording.completed", subject=f"recording/RE{call}", app_id=app_id, payload=payload)


def one(db, columns, table="calls"):
    (row,) = db.execute(f"SELECT {columns} FROM {table}".encode())
    return row


def test_an_incoming_call_is_a_row_that_rings(db):
    tell(db, "call.incoming", "CA1", None)

    process(db)

    columns = "app_id, provider, call_id, state, direction, from_number, to_number"
    assert one(db, columns) == ("acme", "twilio", "CA1", "ringing", "inbound", "+15555550100", "+15555550142")


def test_its_status_callbacks_move_it_to_its_end_with_duration_and_sip_code(db):
    tell(db, "call.incoming", "CA1", None)
    tell(db, "call.answered", "CA1", 8)
    tell(db, "call.completed", "CA1", 50, CallDuration="42", Duration="1", SipResponseCode="200")

    process(db)

    expected = ("completed", Decimal(42), 200, True)
    assert one(db, "state, duration_seconds, sip_code, ended_at = '2026-11-20 12:00:50 UTC'") == expected


@pytest.mark.parametrize("first", ["call", "recording"])
def test_a_recording_is_put_to_its_call_whichever_comes_first(db, first):
    tellers = [lambda: tell(db, "call.completed", "CA1", 50), lambda: record(db, "CA1")]
    for one_of in tellers if first == "call" else tellers[::-1]:
        one_of()
        process(db)

    assert one(db, "state, recording_url, recording_seconds") == (
        "completed", "https://api.twilio.com/recording", Decimal(41),
    )  # fmt: skip


def test_a_recording_of_one_tenant_is_never_put_to_a_call_of_another(db):
    tell(db, "call.completed", "CA1", 50, app_id="acme")
    record(db, "CA1", app_id="bolt")

    process(db)

    found = db.execute("SELECT app_id, state, recording_url IS NOT NULL FROM calls ORDER BY app_id").fetchall()
    assert found == [("acme", "completed", False), ("bolt", "queued", True)]


def test_the_log_tells_when_a_call_began_was_answered_and_ended(db):
    tell(db, "call.completed", "CA1", 50, CallDuration="42")
    tell(db, "call.ringing", "CA1", 1)
    tell(db, "call.answered", "CA1", 8)

    process(db)

    told = one(db, "extract(second FROM started_at), answer_seconds, extract(second FROM ended_at)", "call_log")
    assert told == (1, 7, 50)


@pytest.fixture
def evening(db):
    """Four calls of one tenant, three answered after 2, 4 and 6 s, and one of another."""
    for number, wait in enumerate((2, 4, 6), 1):
        tell(db, "call.ringing", f"CA{number}", 0)
        tell(db, "call.answered", f"CA{number}", wait)
        tell(db, "call.completed", f"CA{number}", 30, CallDuration=str(number * 10))
    tell(db, "call.ringing", "CA4", 0)
    tell(db, "call.no_answer", "CA4", 30)
    tell(db, "call.ringing", "CA5", 0, app_id="bolt")
    process(db)


def test_calls_by_hour(db, evening):
    rows = db.execute("SELECT app_id, hour, calls, inbound, answered FROM calls_by_hour ORDER BY app_id").fetchall()

    assert [(row[0], row[1].isoformat()[:13], *row[2:]) for row in rows] == [
        ("acme", "2026-11-20T12", 4, 4, 3),
        ("bolt", "2026-11-20T12", 1, 1, 0),
    ]


def test_the_answer_rate_and_the_mean_time_to_answer(db, evening):
    told = one(db, "app_id, ended, answered, answer_rate, mean_answer_seconds", "answer_rates")

    assert told == ("acme", 4, 3, Decimal("0.75"), Decimal(4))


def test_percentiles_of_the_duration(db, evening):
    assert one(db, "app_id, calls, p50_seconds, p90_seconds, max_seconds", "call_durations") == ("acme", 3, 20, 28, 30)


def test_a_view_of_no_calls_has_no_rows(db):
    views = ("call_log", "calls_by_hour", "answer_rates", "call_durations")
    assert [db.execute(f"SELECT * FROM {view}".encode()).fetchall() for view in views] == [[]] * 4
