"""Each system's story ends as the same, however it is told; and so do all of them side by side."""

from decimal import Decimal
from functools import cache, reduce
from operator import add

import psycopg
import pytest

from tests.five_stories import campaign, cti, incoming, reminders, survey
from tests.receiver_fixtures import BASE_URL, SECRETS, start
from tests.stories import (
    Stage,
    backwards,
    columns,
    differences,
    doubled,
    four_workers,
    in_order,
    shipped_handlers,
    shuffled,
    union,
)
from tests.story_deliveries import at, recording_url, sid, sources

__all__ = ["start"]

OF_A_TENANT = {"survey": survey, "campaign": campaign, "cti": cti, "reminders": reminders}
STORIES = {"incoming": incoming("north", "south"), **{name: story("north") for name, story in OF_A_TENANT.items()}}
WAYS = {
    "doubled": doubled,
    "backwards": backwards,
    **{f"shuffled-{seed}": shuffled(seed) for seed in (1, 2, 3)},
    "four-workers": four_workers,
}


@pytest.fixture(scope="module", autouse=True)
def handlers():
    with pytest.MonkeyPatch.context() as monkeypatch, shipped_handlers(monkeypatch):
        yield


@pytest.fixture(scope="module")
def stage(session_database, start):
    receiver = start(sources("north") + sources("south"), {"BASE_URL": BASE_URL, **SECRETS})
    with psycopg.connect(session_database, autocommit=True) as conn:
        yield Stage(session_database, conn, receiver)


@pytest.fixture(scope="module")
def ends(stage):
    """Function that returns what a story ends as when it is told in order."""

    @cache
    def end(name):
        return in_order(stage, STORIES[name])

    return end


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", STORIES)
def test_a_story_ends_as_the_same_however_it_is_told(name, way, stage, ends):
    expected = ends(name)

    told = WAYS[way](stage, STORIES[name])

    assert differences(told, expected) == {}


def test_all_five_of_two_tenants_side_by_side_end_as_each_by_itself(stage, ends):
    # The south's providers use the very same ids, and have told half as much.
    south = reduce(add, [story("south").so_far for story in OF_A_TENANT.values()])
    expected = union(*map(ends, STORIES), in_order(stage, south))

    told = four_workers(stage, reduce(add, STORIES.values(), south))

    assert differences(told, expected) == {}


def test_a_survey_ends_with_each_attempts_outcome(ends):
    attempts = ends("survey")["call_attempts"]

    assert columns(attempts, "call_id", "contact_id", "outcome", "answered_by", "duration_seconds", "error_code") == [
        ("attempt-1", "ann", None, "human", 42, None),
        ("attempt-2", "bob", "BUSY", None, 0, None),
        ("attempt-3", "cleo", "NO_ANSWER", None, 0, None),
        ("attempt-4", "dan", "FAILED", None, 0, "21217"),
        ("attempt-5", "eve", "FAILED", None, 0, None),
        ("attempt-6", "finn", "BUSY", None, 0, None),
        ("attempt-7", "finn", None, "machine_end_beep", 12, None),
    ]


def test_a_survey_ends_with_the_recordings_on_the_attempts_that_were_answered(ends):
    attempts = ends("survey")["call_attempts"]

    assert [row["recording_url"] for row in attempts] == [recording_url(1), *[None] * 5, recording_url(7)]
    assert attempts[0]["processed_types"] == [
        "call.amd", "call.answered", "call.completed", "call.initiated", "call.recording", "call.ringing",
    ]  # fmt: skip


def test_a_survey_ends_with_those_who_were_not_reached(ends):
    contacts = ends("survey")["contacts"]

    assert columns(contacts, "contact_id", "campaign_id", "state") == [
        ("ann", "spring", "PENDING"),
        ("bob", "spring", "NOT_REACHED"),
        ("cleo", "spring", "NOT_REACHED"),
        ("dan", "spring", "NOT_REACHED"),
        ("eve", "spring", "NOT_REACHED"),
        ("finn", "spring", "NOT_REACHED"),
    ]


def test_a_survey_ends_with_one_dialogue_a_call_that_was_answered(ends):
    dialogues = ends("survey")["dialogues"]

    assert columns(dialogues, "call_id", "contact_id", "started_at", "announced_at") == [
        (sid("CA", 1), "ann", at("10:00:09"), None),
        (sid("CA", 7), "finn", at("10:20:08"), None),
    ]


def test_a_survey_is_completed_with_its_last_call(ends):
    progress = ends("survey")["campaign_progress"]

    assert columns(progress, "status", "total", "active", "completed", "failed") == [("COMPLETED", 7, 0, 2, 5)]


def test_a_campaign_of_vapi_ends_with_each_calls_status(ends):
    calls = ends("campaign")["vapi_calls"]

    assert columns(calls, "call_id", "status", "ended_reason", "ended_at", "cost_usd") == [
        ("vapi-busy", "FAILED", "customer-busy", at("11:02:50.950"), 0),
        ("vapi-flat", "ENDED", "assistant-ended-call", at("11:07:40"), Decimal("0.02")),
        ("vapi-lost", "ENDED", "assistant-ended-call", at("11:06:50.950"), Decimal("0.25")),
        ("vapi-nobody", "FAILED", "customer-did-not-answer", at("11:03:50.950"), 0),
        ("vapi-refused", "FAILED", "call-failed", at("11:08:02"), None),
        ("vapi-silent", "TIMEOUT", "silence-timed-out", at("11:04:50.950"), Decimal("0.5")),
        ("vapi-stopped", "CANCELED", "manually-canceled", at("11:05:50.950"), 0),
        ("vapi-stranger", "FAILED", "call.start.error-get-assistant", at("11:09:50.950"), 0),
        ("vapi-talked", "ENDED", "customer-ended-call", at("11:01:50.950"), Decimal("0.0473")),
    ]


def test_a_campaign_of_vapi_ends_with_recordings_and_transcripts(ends):
    calls = ends("campaign")["vapi_calls"]

    talked = "AI: How can I help?\nUser: Tuesday is fine.\n"
    mono, flat = "https://storage.vapi.example/rec-mono.wav", "https://storage.vapi.example/flat.wav"
    kept = [row for row in calls if row["recording_url"] or row["transcript"]]
    assert columns(kept, "call_id", "recording_url", "transcript") == [
        ("vapi-flat", flat, "AI: Goodbye."),
        ("vapi-lost", mono, talked),
        ("vapi-silent", mono, talked),
        ("vapi-talked", mono, talked),
    ]


def test_a_campaign_of_vapi_is_completed_with_its_last_call(ends):
    progress = ends("campaign")["campaign_progress"]

    assert columns(progress, "status", "total", "active", "completed", "failed") == [("COMPLETED", 9, 0, 4, 5)]


def test_incoming_calls_end_in_the_log_of_their_tenant(ends):
    calls = ends("incoming")["call_log"]

    assert columns(
        calls, "app_id", "call_id", "from_number", "to_number", "state", "duration_seconds", "sip_code", "recording_url"
    ) == [
        ("north", sid("CA", 21), "+15555550161", "+15555550101", "completed", 100, 200, recording_url(21)),
        ("north", sid("CA", 23), "+15555550162", "+15555550101", "no_answer", 0, 487, None),
        ("south", sid("CA", 22), "+15555550162", "+15555550102", "completed", 20, 200, None),
        ("south", sid("CA", 24), "+15555550161", "+15555550102", "completed", 4, 200, None),
    ]


def test_incoming_calls_end_in_the_figures_of_their_tenant(ends):
    rates, hours = ends("incoming")["answer_rates"], ends("incoming")["calls_by_hour"]

    assert columns(rates, "app_id", "direction", "ended", "answered") == [
        ("north", "inbound", 2, 1),
        ("south", "inbound", 2, 2),
    ]
    assert columns(hours, "app_id", "hour", "calls") == [
        ("north", at("13:00"), 2),
        ("south", at("13:00"), 1),
        ("south", at("14:00"), 1),
    ]


def test_legs_end_as_agents_see_them(ends):
    legs = ends("cti")["cti_calls"]

    group, alone, out = "5000000000000100", "5000000000000103", "5000000000000104"
    talk, total = Decimal("31.0005"), Decimal("51.0004")
    assert columns(legs, "call_id", "status", "conversation_id", "direction", "talk_seconds", "total_seconds") == [
        (group, "ended", group, "inbound", talk, total),
        ("5000000000000101", "missed", group, "inbound", None, 8),
        ("5000000000000102", "ended", group, "inbound", talk, total),
        (alone, "missed", alone, "inbound", None, 20),
        (out, "ended", out, "outbound", 25, 30),
    ]


def test_legs_end_with_what_was_recorded(ends):
    calls = ends("cti")["calls"]

    kept = [row for row in calls if row["recording_url"] or row["voicemail_url"]]
    assert columns(kept, "call_id", "recording_url", "recording_seconds", "voicemail_url", "transcript") == [
        ("5000000000000100", "https://dialpad.example/recording/7", Decimal("42.5"), None, "Hello. Hi."),
        ("5000000000000103", None, None, "https://dialpad.example/voicemail/1", None),
    ]


def test_messages_end_with_their_delivery_result(ends):
    messages = ends("cti")["messages"]

    assert columns(messages, "message_id", "direction", "state", "delivery_result", "text") == [
        ("6001", "inbound", "received", None, "Test"),
        ("6002", "outbound", "delivered", "accepted", "Test"),
        ("6003", "outbound", "failed", "rejected_spam", "Test"),
    ]


def test_reminders_end_with_what_came_of_their_call_or_sms(ends):
    rows = ends("reminders")["reminders"]

    assert columns(rows, "reminder_id", "status", "retry_count", "next_retry_at", "skip_reason", "error_code") == [
        ("cut-off", "pending", 1, at("17:06:30"), None, None),
        ("machine", "pending", 1, at("17:05:30"), None, None),
        ("paid", "completed", 0, None, None, None),
        ("refused", "failed", 0, None, "no_answer", None),
        ("silent", "in_progress", 0, None, None, None),
        ("sms-delivered", "completed", 0, None, None, None),
        ("sms-failed", "failed", 0, None, None, "21610"),
        ("sms-late", "completed", 0, None, None, None),
        ("sms-sent", "in_progress", 0, None, None, None),
        ("sms-undelivered", "failed", 0, None, None, "30003"),
        ("talking", "processing", 0, None, None, None),
    ]


def test_only_calls_that_are_in_progress_are_expected_to_tell_more(ends):
    expected = ends("reminders")["webhook_expectations"]

    assert columns(expected, "subject", "event_type") == [
        ("reminder/silent", "reminder.timeout"),
        ("reminder/talking", "reminder.timeout"),
    ]


def test_only_a_reminder_that_nobody_made_is_a_dead_letter(ends):
    dead = [row for name in STORIES for row in ends(name)["events"] if row["dead"]]

    assert columns(dead, "event_type", "subject") == [("call.completed", "reminder/unknown")]
