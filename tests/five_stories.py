"""The five stories, one a system, each as a tenant's providers would send it."""

from collections.abc import Iterator
from typing import Any

from tests.signing import Signed
from tests.stories import Story
from tests.story_deliveries import (
    agent,
    call_status,
    dialpad_call,
    dialpad_sms,
    incoming_call,
    machine_detection,
    message_status,
    number_status,
    recording,
    recording_url,
    sid,
    vapi,
    vapi_flat,
    vapi_report,
)


def survey(app: str) -> Story:
    """Seven calls to six people: two talk, one of them at the second attempt; four are not reached."""

    def call(number: int, person: str, *told: tuple[str, str], **end: str) -> Iterator[Signed]:
        query = f"?call_id=attempt-{number}&campaign_id=spring&contact_id={person}"
        for sequence, (status, clock) in enumerate(told):
            last = end if sequence == len(told) - 1 else {}
            yield call_status(app, number, status, clock, query=query, SequenceNumber=str(sequence), **last)

    ann = [*call(1, "ann", ("initiated", "10:00:00"), ("ringing", "10:00:02"), ("in-progress", "10:00:09"),
                 ("completed", "10:00:51"), CallDuration="42",
                 RecordingUrl=recording_url(1), RecordingSid=sid("RE", 1), RecordingDuration="41")]  # fmt: skip
    second = [*call(7, "finn", ("initiated", "10:20:00"), ("ringing", "10:20:03"), ("in-progress", "10:20:08"),
                    ("completed", "10:20:20"), CallDuration="12")]  # fmt: skip
    return Story(
        [
            *ann[:3],
            machine_detection(app, 1, "human", "?call_id=attempt-1&campaign_id=spring&contact_id=ann"),
            *ann[3:],
            recording(app, 1, 41),
            *call(2, "bob", ("initiated", "10:01:00"), ("ringing", "10:01:02"), ("busy", "10:01:04"), CallDuration="0"),
            *call(3, "cleo", ("initiated", "10:02:00"), ("ringing", "10:02:01"), ("no-answer", "10:02:31")),
            *call(4, "dan", ("initiated", "10:03:00"), ("failed", "10:03:01"), ErrorCode="21217"),
            *call(5, "eve", ("initiated", "10:04:00"), ("ringing", "10:04:02"), ("canceled", "10:04:07")),
            *call(6, "finn", ("initiated", "10:05:00"), ("ringing", "10:05:02"), ("busy", "10:05:03")),
            *second[:3],
            machine_detection(app, 7, "machine_end_beep"),
            *second[3:],
            recording(app, 7, 11),
        ],
        f"""
        INSERT INTO campaigns (app_id, campaign_id, name, planned_calls) VALUES ('{app}', 'spring', 'Spring survey', 7);
        INSERT INTO contacts (app_id, contact_id, campaign_id)
        SELECT '{app}', who, 'spring' FROM unnest(ARRAY['ann', 'bob', 'cleo', 'dan', 'eve']) AS who;
        """,
    )


def campaign(app: str) -> Story:
    """Nine calls of Vapi: each way to end there is, two told in the seed's flat form, one whose end got lost."""

    def calls(call: str, minute: int, *told: str) -> Iterator[Signed]:
        statuses = {"queued": "00", "ringing": "01.5", "in-progress": "08.2"}
        for status in told:
            yield vapi(app, f"vapi-status-{status}", call, f"11:{minute:02}:{statuses[status]}", "autumn")

    def end(
        call: str, minute: int, reason: str, *, talked: bool = False, lost: bool = False, **fields: Any
    ) -> Iterator[Signed]:
        ended = {"endedReason": reason, "endedAt": f"2024-05-06T11:{minute:02}:50.950Z"}
        if talked:
            ended["startedAt"] = f"2024-05-06T11:{minute:02}:08.200Z"
        if not lost:
            ended_type = "vapi-ended-customer-ended-call"
            yield vapi(app, ended_type, call, f"11:{minute:02}:51", "autumn", endedReason=reason)
        yield vapi_report(app, call, f"11:{minute:02}:55", "autumn", ended, **fields)

    flat = {"endedAt": "2024-05-06T11:07:40Z", "endedReason": "assistant-ended-call", "cost": 0.02,
            "recordingUrl": "https://storage.vapi.example/flat.wav", "transcript": "AI: Goodbye."}  # fmt: skip
    return Story(
        [
            *calls("vapi-talked", 1, "queued", "ringing", "in-progress"),
            vapi(app, "vapi-transcript-final", "vapi-talked", "11:01:13"),
            vapi(app, "vapi-status-forwarding", "vapi-talked", "11:01:40.1"),
            vapi(app, "vapi-hang", "vapi-talked", "11:01:41", type="language-change-detected", language="nl"),
            *end("vapi-talked", 1, "customer-ended-call", talked=True),
            *calls("vapi-busy", 2, "queued", "ringing"),
            *end("vapi-busy", 2, "customer-busy"),
            *calls("vapi-nobody", 3, "queued", "ringing"),
            *end("vapi-nobody", 3, "customer-did-not-answer"),
            *calls("vapi-silent", 4, "queued", "ringing", "in-progress"),
            *end("vapi-silent", 4, "silence-timed-out", talked=True, cost=0.5),
            *calls("vapi-stopped", 5, "queued"),
            *end("vapi-stopped", 5, "manually-canceled"),
            *calls("vapi-lost", 6, "queued", "ringing", "in-progress"),
            *end("vapi-lost", 6, "assistant-ended-call", talked=True, lost=True, cost=0.25),
            *(vapi_flat(app, f"call.{kind}", "vapi-flat") for kind in ("started", "ringing", "answered")),
            vapi_flat(app, "call.ended", "vapi-flat", **flat),
            vapi_flat(app, "call.failed", "vapi-refused", endedAt="2024-05-06T11:08:02Z", endedReason="call-failed"),
            *calls("vapi-stranger", 9, "queued", "ringing"),
            *end("vapi-stranger", 9, "call.start.error-get-assistant"),
        ],
        f"""
        INSERT INTO campaigns (app_id, campaign_id, planned_calls) VALUES ('{app}', 'autumn', 9);
        INSERT INTO calls (app_id, provider, call_id, campaign_id)
        SELECT '{app}', 'vapi', 'vapi-' || call, 'autumn'
          FROM unnest(ARRAY['talked', 'busy', 'nobody', 'silent', 'stopped', 'lost', 'flat', 'refused']) AS call;
        """,
    )


def incoming(first: str, second: str) -> Story:
    """Calls to the numbers of two tenants: three are answered, one of them is recorded; one caller gives up."""
    recorded = {"RecordingUrl": recording_url(21), "RecordingSid": sid("RE", 21), "RecordingDuration": "95"}
    ours, theirs = ({"To": number, "Called": number} for number in ("+15555550101", "+15555550102"))
    one, other = ({"From": number, "Caller": number} for number in ("+15555550161", "+15555550162"))
    answered = {"SipResponseCode": "200"}
    return Story(
        [
            incoming_call(first, 21, **one, **ours),
            incoming_call(second, 22, **other, **theirs),
            number_status(second, 22, "completed", "13:00:30", **other, **theirs, **answered, CallDuration="20"),
            number_status(
                first, 21, "completed", "13:01:40", **one, **ours, **answered, CallDuration="100", **recorded
            ),
            recording(first, 21, 95),
            incoming_call(first, 23, **other, **ours),
            number_status(first, 23, "no-answer", "13:20:00", **other, **ours, CallDuration="0", SipResponseCode="487"),
            incoming_call(second, 24, **one, **theirs),
            number_status(second, 24, "completed", "14:00:05", **one, **theirs, **answered, CallDuration="4"),
        ]
    )


def cti(app: str) -> Story:
    """A call to a group, which the second agent takes; one missed, with a voicemail; one out; messages both ways."""
    entry, ann, bob, missed, out = (5000000000000100 + number for number in range(5))
    group: dict[str, Any] = {"started": "15:00:00", "master_call_id": entry, "entry_point_call_id": entry}
    anns, bobs = (group | {"internal_number": number} for number in ("+15555550112", "+15555550113"))
    durations = {"duration": 43000.12, "talk_time": 31000.5, "total_duration": 51000.4}
    answered: dict[str, Any] = {"connected": "15:00:08", "ended": "15:00:51", **durations}
    alone: dict[str, Any] = {"started": "15:10:00", "ended": "15:10:20"}
    return Story(
        [
            dialpad_call(app, entry, "ringing", "15:00:00.5", started="15:00:00"),
            dialpad_call(app, ann, "ringing", "15:00:01", **anns),
            dialpad_call(app, bob, "ringing", "15:00:01.2", **bobs),
            dialpad_call(app, bob, "connected", "15:00:08.1", connected="15:00:08", **bobs),
            dialpad_call(app, entry, "connected", "15:00:08.3", started="15:00:00", connected="15:00:08"),
            dialpad_call(app, ann, "missed", "15:00:08.5", ended="15:00:08", **anns),
            dialpad_call(app, ann, "hangup", "15:00:09", ended="15:00:08", total_duration=8000.0, **anns),
            dialpad_call(app, bob, "hold", "15:00:20", connected="15:00:08", **bobs),
            dialpad_call(app, bob, "hangup", "15:00:51.5", **bobs, **answered),
            dialpad_call(app, entry, "hangup", "15:00:51.9", started="15:00:00", **answered),
            dialpad_call(app, entry, "recording", "15:01:30", started="15:00:00", was_recorded=True, **answered,
                         recording_details=[{"id": "7", "duration": 42500.0, "recording_type": "admincallrecording",
                                             "url": "https://dialpad.example/recording/7"}]),
            dialpad_call(app, entry, "call_transcription", "15:02:00", started="15:00:00",
                         transcription_text="Hello. Hi.", **answered),
            dialpad_call(app, missed, "ringing", "15:10:00.5", started="15:10:00"),
            dialpad_call(app, missed, "missed", "15:10:20.4", **alone),
            dialpad_call(app, missed, "hangup", "15:10:21", total_duration=20000.0, **alone),
            dialpad_call(app, missed, "voicemail_uploaded", "15:10:36", sample="dialpad-voicemail-uploaded", **alone),
            dialpad_call(app, out, "calling", "15:20:00.2", started="15:20:00", direction="outbound"),
            dialpad_call(app, out, "connected", "15:20:05.1", started="15:20:00", connected="15:20:05",
                         direction="outbound"),
            dialpad_call(app, out, "hangup", "15:20:30.3", started="15:20:00", connected="15:20:05", ended="15:20:30",
                         direction="outbound", duration=25000.0, talk_time=25000.0, total_duration=30000.0),
            dialpad_sms(app, "dialpad-sms-inbound", 6001, "15:30:00.4", created="15:30:00"),
            dialpad_sms(app, "dialpad-sms-outbound-pending", 6002, "15:31:00.4", created="15:31:00"),
            dialpad_sms(app, "dialpad-sms-outbound-success", 6002, "15:31:04", created="15:31:00"),
            dialpad_sms(app, "dialpad-sms-outbound-pending", 6003, "15:32:00.4", created="15:32:00"),
            dialpad_sms(app, "dialpad-sms-outbound-failed", 6003, "15:32:05", created="15:32:00"),
        ]
    )  # fmt: skip


def reminders(app: str) -> Story:
    """Seven reminders by call, one of which nobody made and one of which nobody hears of, and five by SMS."""
    talked, briefly, nobody = ({"connected": duration > 0, "duration": duration} for duration in (45.5, 9, 0))
    return Story(
        [
            agent(app, "paid", "call_answered", "16:00:10"),
            agent(app, "paid", "call_completed", "16:01:00", **talked, customer_response="will_pay"),
            agent(app, "machine", "call_answered", "16:05:10"),
            agent(app, "machine", "call_completed", "16:05:30", **briefly, customer_response="voicemail"),
            agent(app, "cut-off", "call_completed", "16:06:30", **nobody),
            agent(app, "refused", "call_failed", "16:07:00", **nobody, customer_response="no_answer"),
            agent(app, "talking", "call_answered", "16:08:00"),
            agent(app, "unknown", "call_completed", "16:09:00", **talked),
            message_status(app, 31, "sent"),
            message_status(app, 31, "delivered"),
            message_status(app, 32, "sending"),
            message_status(app, 32, "sent"),
            message_status(app, 32, "undelivered"),
            message_status(app, 33, "sent"),
            message_status(app, 34, "failed"),
            # The application writes down what Twilio answered, unless the callbacks are faster.
            f"""UPDATE reminders SET external_id = '{sid("SM", 35)}'
                 WHERE (app_id, reminder_id) = ('{app}', 'sms-late') AND external_id IS NULL""",
            message_status(app, 35, "sent"),
            message_status(app, 35, "delivered"),
        ],
        f"""
        INSERT INTO reminders (app_id, reminder_id, status)
        SELECT '{app}', who, 'in_progress'
          FROM unnest(ARRAY['paid', 'machine', 'cut-off', 'refused', 'talking', 'silent']) AS who;
        INSERT INTO reminders (app_id, reminder_id, channel, status, external_id) VALUES
            ('{app}', 'sms-delivered', 'sms', 'in_progress', '{sid("SM", 31)}'),
            ('{app}', 'sms-undelivered', 'sms', 'in_progress', '{sid("SM", 32)}'),
            ('{app}', 'sms-sent', 'sms', 'in_progress', '{sid("SM", 33)}'),
            ('{app}', 'sms-failed', 'sms', 'in_progress', '{sid("SM", 34)}'),
            ('{app}', 'sms-late', 'sms', 'in_progress', NULL);
        """,
    )  # fmt: skip
