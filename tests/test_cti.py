"""Dialpad CTI: the calls that agents see, in Dialpad's states and the seed's; messages; and what an operator counts."""

from itertools import count, permutations

import pytest

from processor import on, operations
from tests.arrivals import arrive, connection, db, sample, sent, shipped
from tests.commands import lines, runner
from tests.inbox import look, make_due, process

__all__ = ["connection", "db", "shipped"]

pytestmark = pytest.mark.usefixtures("shipped")

CALL, LEG = "5314479320940544", "6421977457180672"
STARTED = "2026-11-20T10:00:00+00:00"
NUMBERS = count(1)


def of(name, **changes):
    """Return one of Dialpad's samples, perhaps with other values."""
    return sample("dialpad", f"dialpad-{name}", **changes)


def in_state(state, at=1795168801000, **fields):
    """Return a call event of a state that the samples have none of."""
    return of("ringing", state=state, event_timestamp=at, **fields)


def seed(event_type, **call):
    """Return an event of the seed document."""
    known = {"id": 123456789, "direction": "inbound", "from": "+15551234567", "to": "+15559876543"}
    return sent({"event_type": event_type, "event_id": f"seed-{next(NUMBERS)}", "call": {**known, **call}})


def have(db, *deliveries):
    events = arrive(db, "dialpad", *deliveries)
    process(db)
    return events


def shown(db, columns="status", call=CALL):
    """Return columns of the row on an agent's screen."""
    (found,) = db.execute(f"SELECT {columns} FROM cti_calls WHERE call_id = %s".encode(), [call]).fetchall()
    return found if len(found) > 1 else found[0]


def kept(db, columns, call=CALL):
    (found,) = db.execute(f"SELECT {columns} FROM calls WHERE call_id = %s".encode(), [call]).fetchall()
    return found if len(found) > 1 else found[0]


# The seed's handlers


def test_call_started_keeps_an_active_call(db):
    have(db, seed("call.started", started_at=STARTED))

    assert shown(db, "status, direction, from_number, to_number, ended_at", "123456789") == (
        "active", "inbound", "+15551234567", "+15559876543", None,
    )  # fmt: skip


def test_call_ring_keeps_a_ringing_call(db):
    have(db, seed("call.ring"))

    assert shown(db, "status", "123456789") == "ringing"


def test_call_ended_ends_the_call_with_its_time_and_its_seconds(db):
    have(db, seed("call.started", started_at=STARTED))

    have(db, seed("call.ended", ended_at="2026-11-20T10:05:00Z", duration=300))

    columns = "status, ended_at = '2026-11-20 10:05:00 UTC', talk_seconds"
    assert shown(db, columns, "123456789") == ("ended", True, 300)


def test_call_recording_completed_attaches_the_recording_and_leaves_the_rest(db):
    have(db, seed("call.ended", ended_at="2026-11-20T10:05:00Z", duration=300))

    have(db, seed("call.recording.completed", recording_url="https://dialpad.example/r/1"))

    assert shown(db, "status, recording_url, talk_seconds", "123456789") == (
        "ended",
        "https://dialpad.example/r/1",
        300,
    )


def test_a_recording_may_come_before_its_call(db):
    have(db, seed("call.recording.completed", recording_url="https://dialpad.example/r/1"))

    have(db, seed("call.started"))

    assert shown(db, "status, recording_url", "123456789") == ("active", "https://dialpad.example/r/1")


def test_sms_received_keeps_an_inbound_message(db):
    event = {"id": 77, "from": "+15551234567", "to": "+15559876543", "text": "Hello", "sent_at": STARTED}

    have(db, sent({"event_type": "sms.received", "event_id": "evt-77", **event}))

    columns = "message_id, direction, from_number, to_numbers, text, sent_at = '2026-11-20 10:00 UTC', state"
    assert db.execute(f"SELECT {columns} FROM messages").fetchall() == [
        ("77", "inbound", "+15551234567", ["+15559876543"], "Hello", True, "received"),
    ]


# Dialpad's states


@pytest.mark.parametrize(
    ("delivery", "status"),
    [
        (in_state("calling"), "active"),
        (in_state("ringing"), "ringing"),
        (in_state("preanswer"), "ringing"),
        (in_state("queued"), "ringing"),
        (of("connected"), "active"),
        (of("hangup-answered"), "ended"),
        (of("hangup-unanswered"), "ended"),
        (of("missed"), "missed"),
    ],
    ids=["calling", "ringing", "preanswer", "queued", "connected", "answered hangup", "unanswered hangup", "missed"],
)
def test_a_state_of_dialpad_has_its_status(db, delivery, status):
    have(db, delivery)

    assert shown(db) == status


def test_an_answered_call_ends_with_its_time_and_its_talk_and_total_in_seconds(db):
    have(db, of("ringing"), of("connected"), of("hangup-answered"))

    columns = "status, state, ended_at = '2026-11-20 10:00:51 UTC', talk_seconds::text, total_seconds::text"
    assert shown(db, columns) == ("ended", "completed", True, "43.00012", "51.0004")


def test_an_unanswered_call_ends_without_talk(db):
    have(db, of("hangup-unanswered"))

    columns = "status, state, ended_at = '2026-11-20 10:00:08.951 UTC', talk_seconds, total_seconds::text"
    assert shown(db, columns) == ("ended", "no_answer", True, 0, "8.95103")


def test_a_missed_call_stays_missed_when_it_is_hung_up(db):
    have(db, of("ringing"), of("missed"))
    have(db, of("hangup-unanswered", event_timestamp=1795168821000))

    assert shown(db) == "missed"


def test_who_calls_whom_is_told_by_the_direction(db):
    have(db, of("ringing"), of("ringing", call_id=2, direction="outbound"))

    assert shown(db, "from_number, to_number") == ("+15555550100", "+15555550111")
    assert shown(db, "from_number, to_number", "2") == ("+15555550111", "+15555550100")


def test_a_voicemail_is_kept_with_the_call_that_was_missed(db):
    have(db, of("missed"), of("voicemail-uploaded"))

    assert shown(db, "status, voicemail_url") == ("missed", "https://dialpad.example/voicemail/1")


@pytest.mark.parametrize("state", ["recording", "admin_recording"])
def test_a_recording_is_attached_with_its_seconds(db, state):
    details = [
        {"id": "1", "url": "https://dialpad.example/r/1", "duration": 41000.5, "recording_type": "callrecording"}
    ]

    have(db, of("hangup-answered"), in_state(state, recording_details=details))

    assert kept(db, "state, recording_url, recording_seconds::text") == (
        "completed", "https://dialpad.example/r/1", "41.0005",
    )  # fmt: skip


@pytest.mark.parametrize("state", ["transcription", "call_transcription"])
def test_a_transcript_is_attached(db, state):
    have(db, of("hangup-answered"), of("call-transcription", state=state))

    assert shown(db, "status, transcript") == ("ended", "Hello. Hi.")


def test_each_hold_is_logged_and_changes_nothing_of_the_call(db):
    have(db, of("connected"), of("hold-1"), of("hold-2"))

    assert shown(db) == "active"
    log = db.execute("SELECT provider_type, change FROM call_events ORDER BY id").fetchall()
    assert log == [("connected", "created"), ("hold", "noted"), ("hold", "noted")]


def test_a_call_can_be_parked_and_transferred_and_goes_on(db):
    have(db, of("connected"), in_state("parked", 1795168820000), in_state("transfer", 1795168830000))
    assert shown(db) == "active"

    have(db, of("hangup-answered", is_transferred=True))
    assert shown(db) == "ended"


@pytest.mark.parametrize("name", ["recap_summary", "dispositions", "takeover"])
def test_a_state_that_says_nothing_of_the_calls_course_leaves_its_status(db, name):
    (event,) = have(db, of("connected"), in_state(name, 1795168830000))[1:]

    assert look(db, event, "outcome") == ("handled",)
    assert shown(db) == "active"


# Legs


def test_the_legs_of_a_group_call_are_one_conversation(db):
    have(db, of("ringing"), of("group-leg"))

    legs = db.execute("SELECT call_id, status, conversation_id FROM cti_calls ORDER BY call_id").fetchall()
    assert legs == [(CALL, "ringing", CALL), (LEG, "active", CALL)]
    columns = "conversation_id, legs, status, call_ids"
    assert db.execute(f"SELECT {columns} FROM cti_conversations").fetchall() == [(CALL, 2, "active", [CALL, LEG])]


def test_a_conversation_is_over_when_each_of_its_legs_is(db):
    have(db, of("hangup-unanswered"), of("group-leg"))
    assert db.execute("SELECT status FROM cti_conversations").fetchall() == [("active",)]

    have(db, of("hangup-answered", call_id=int(LEG), entry_point_call_id=int(CALL), master_call_id=int(CALL)))

    columns = "status, talk_seconds::text, ended_at = '2026-11-20 10:00:51 UTC'"
    assert db.execute(f"SELECT {columns} FROM cti_conversations").fetchall() == [("ended", "43.00012", True)]


def test_a_leg_that_knows_its_master_alone_joins_it(db):
    have(db, of("connected"), of("group-leg", entry_point_call_id=None))

    assert shown(db, "conversation_id", LEG) == CALL


def test_a_group_call_that_all_missed_is_missed(db):
    have(db, of("missed"), of("missed", call_id=int(LEG), entry_point_call_id=int(CALL)))

    assert db.execute("SELECT legs, status FROM cti_conversations").fetchall() == [(2, "missed")]


# Idempotency and order


def test_events_that_are_handled_again_change_no_call(db):
    events = have(db, of("ringing"), of("connected"), of("hangup-answered"), of("call-transcription"))
    before = kept(db, "*")

    for event in events:
        db.execute("UPDATE webhook_events SET processed_at = NULL WHERE id = %s", [event])
        process(db)

    assert kept(db, "*") == before


def test_a_call_is_a_row_however_many_events_tell_of_it(db):
    have(db, *(of("ringing", event_timestamp=1795168800900 + number) for number in range(3)))

    assert db.execute("SELECT call_id FROM calls").fetchall() == [(CALL,)]


def test_an_events_id_is_stored_once(db):
    arrive(db, "dialpad", of("ringing"))

    with pytest.raises(Exception, match="webhook_events_key"):
        arrive(db, "dialpad", of("ringing"))


STORIES = {
    "answered": [of("ringing"), of("connected"), of("hangup-answered"), of("call-transcription")],
    "missed": [of("ringing"), of("missed"), of("voicemail-uploaded"),
               of("hangup-unanswered", event_timestamp=1795168837000)],
    "the seed's": [seed("call.ring", started_at="2026-11-20T09:59:50Z"), seed("call.started", started_at=STARTED),
                   seed("call.ended", ended_at="2026-11-20T10:05:00Z", duration=300),
                   seed("call.recording.completed", recording_url="https://dialpad.example/r/1")],
}  # fmt: skip


@pytest.mark.parametrize("name", STORIES)
def test_a_call_ends_alike_in_whatever_order_its_events_come(db, name):
    for number, order in enumerate(permutations(STORIES[name])):
        arrive(db, "dialpad", *order, app_id=f"tenant-{number}", source=f"dialpad-{number}")
    process(db)

    seen = "status, direction, from_number, to_number, ended_at, talk_seconds, total_seconds, recording_url"
    ends = db.execute(f"SELECT {seen}, voicemail_url, transcript, last_status_at FROM cti_calls").fetchall()
    assert (len(ends), len(set(ends))) == (24, 1)


def test_tenants_have_calls_of_their_own(db):
    arrive(db, "dialpad", of("ringing"), app_id="acme")
    arrive(db, "dialpad", of("missed"), app_id="other")
    process(db)

    found = db.execute("SELECT app_id, status FROM cti_calls ORDER BY app_id").fetchall()
    assert found == [("acme", "ringing"), ("other", "missed")]


# Messages


def messages(db):
    columns = "message_id, state, direction, from_number, to_numbers, text, delivery_result"
    return db.execute(f"SELECT {columns} FROM messages ORDER BY message_id").fetchall()


def test_an_inbound_message_is_received_though_dialpad_calls_it_pending(db):
    have(db, of("sms-inbound"))

    assert messages(db) == [
        ("6095823680520192", "received", "inbound", "+15555550100", ["+15555550111"], "Test", None),
    ]
    assert db.execute("SELECT sent_at = '2026-11-20 10:00 UTC' FROM messages").fetchall() == [(True,)]


def test_a_message_whose_text_is_withheld_has_none(db):
    have(db, of("sms-inbound-no-text"))

    assert [row[5] for row in messages(db)] == [None]


def test_a_group_message_has_all_of_its_numbers(db):
    have(db, of("sms-group"))

    assert [row[4] for row in messages(db)] == [["+15555550111", "+15555550112"]]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["in order", "late"])
def test_a_message_id_is_one_row_with_its_deliverys_result(db, order):
    told = [of("sms-outbound-pending"), of("sms-outbound-success")]

    have(db, *(told[number] for number in order))

    assert messages(db) == [
        ("6095823680520194", "delivered", "outbound", "+15555550111", ["+15555550100"], "Test", "accepted"),
    ]


def test_a_message_that_was_not_delivered_says_why(db):
    have(db, of("sms-outbound-failed"))

    assert messages(db) == [
        ("6095823680520195", "failed", "outbound", "+15555550111", ["+15555550100"], "Test", "rejected_spam"),
    ]


# A new event type; the processor's counts; failures


def test_a_new_event_type_needs_a_handler_and_nothing_else(db):
    @on("message.received", provider="dialpad")
    def note(event, conn):
        conn.execute("UPDATE messages SET text = text || '!' WHERE message_id = %s", (event.subject_id,))

    have(db, of("sms-inbound"))

    assert [row[5] for row in messages(db)] == ["Test!"]


def test_process_once_tells_how_many_were_processed_and_how_many_failed(db):
    arrive(db, "dialpad", of("ringing"), of("connected"), of("ringing", call_id=2), of("hold-1", call_id=None))

    totals = operations.process_once(db, batch_size=10, max_events=100)

    assert (totals.handled, totals.failed, totals.dead) == (3, 1, 1)


def test_process_once_takes_no_more_than_it_is_asked_to(db):
    arrive(db, "dialpad", *(of("ringing", call_id=number) for number in range(1, 8)))

    assert operations.process_once(db, batch_size=2, max_events=5).handled == 5
    assert operations.process_once(db, batch_size=1).handled == 2


def test_the_statistics_are_those_of_the_seed(db, session_database):
    have(db, of("ringing"), of("connected"))
    arrive(db, "dialpad", of("hangup-answered"), received_at="2026-01-27 10:30 UTC")
    arrive(db, "dialpad", of("sms-inbound"), received_at="2026-01-27 10:31 UTC")

    (found,) = lines(runner(session_database)("status", "--totals", "--json"))

    assert found["totals"] == {
        "unprocessed": 2, "processed": 2, "event_types": 4, "oldest_unprocessed": "2026-01-27T10:30:00Z",
    }  # fmt: skip


def test_the_seeds_own_questions_can_be_asked_in_sql(db):
    arrive(db, "dialpad", of("hangup-answered"), received_at="2026-01-27 10:30 UTC")
    arrive(db, "dialpad", of("missed", call_id=2), of("missed", call_id=3), received_at="2026-01-27 10:31 UTC")

    by_type = "SELECT event_type, count(*) FROM webhook_events WHERE processed_at IS NULL GROUP BY 1 ORDER BY 1"
    lag = "SELECT count(*), min(received_at) < max(received_at) FROM webhook_events WHERE processed_at IS NULL"
    assert db.execute(by_type).fetchall() == [("call.completed", 1), ("call.missed", 2)]
    assert db.execute(lag).fetchone() == (3, True)


def test_a_failed_event_is_not_marked_processed_and_is_tried_again(db):
    failures = [ConnectionError("the crm is down")]

    @on("call.ringing", provider="dialpad")
    def fail_once(event, conn):
        if failures:
            raise failures.pop()

    arrive(db, "dialpad", of("ringing"))
    totals = process(db)
    assert totals.failed == 1
    assert look(db, 1, "processed_at, attempts, last_error") == (None, 1, "ConnectionError: the crm is down")
    assert db.execute("SELECT FROM calls").fetchall() == []

    make_due(db)
    process(db)
    assert look(db, 1, "outcome, attempts") == ("handled", 2)
    assert shown(db) == "ringing"


def test_an_update_by_hand_skips_an_event(db):
    arrive(db, "dialpad", of("ringing"))

    db.execute("UPDATE webhook_events SET processed_at = now() WHERE id = 1")

    assert process(db).claimed == 0
    assert look(db, 1, "outcome") == ("skipped",)
    assert db.execute("SELECT FROM calls").fetchall() == []


def test_old_failures_are_skipped_by_the_seeds_update(db):
    arrive(db, "dialpad", of("hold-1", call_id=None), received_at="2026-01-01 UTC")
    process(db)
    arrive(db, "dialpad", of("ringing"))

    db.execute(
        "UPDATE webhook_events SET processed_at = now()"
        " WHERE processed_at IS NULL AND received_at < now() - interval '7 days'"
    )
    process(db)

    assert db.execute("SELECT outcome, dead_at FROM webhook_events ORDER BY id").fetchall() == [
        ("skipped", None), ("handled", None),
    ]  # fmt: skip


def test_an_event_of_an_unknown_type_is_logged_and_marked_processed(db, caplog):
    caplog.set_level("INFO")

    (event,) = have(db, sent({"event_type": "contact.created", "event_id": "evt-1"}))

    assert look(db, event, "processed_at IS NOT NULL, outcome, provider_type") == (
        True,
        "no_handler",
        "contact.created",
    )
    assert [line for line in caplog.messages if "no handler" in line or "no_handler" in line]


@pytest.mark.parametrize(
    ("delivery", "told"),
    [
        (of("ringing", call_id=None), "dialpad ringing: call_id"),
        (of("hangup-answered", duration="long"), "dialpad hangup: duration"),
        (of("hangup-answered", talk_time=-1), "dialpad hangup: talk_seconds"),
        (of("missed", date_ended="yesterday"), "dialpad missed: date_ended"),
        (of("sms-inbound", to_number=[1]), "dialpad sms:inbound:pending: to_number"),
        (sent({"event_type": "call.ended", "call": {"id": 1, "ended_at": "late"}}), "dialpad call.ended: ended_at"),
    ],
    ids=["no call_id", "duration", "talk_time", "date_ended", "to_number", "the seed's ended_at"],
)
def test_a_payload_that_is_not_as_documented_is_a_dead_letter_that_names_the_field(db, delivery, told):
    (event,) = have(db, delivery)

    dead, error = look(db, event, "dead_at IS NOT NULL, last_error")
    assert dead
    assert error.startswith(f"Invalid: {told}")
