"""The demo's deliveries: real, signed, of all four providers; a story a system, and one of each kind of trouble.

What an application would have written before them is in processor/demo_stories.py, which knows a run's ids by the same
rule as here: names end in the run's first 6 digits, and the reminder's SMS is ``SM`` and the run.
"""

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from receiver.samples import Sample


@dataclass(frozen=True, slots=True)
class Step:
    """A sample, the source it is sent to, the story it is part of, and what it tells or is special about it."""

    source: str
    sample: Sample
    story: str = ""
    note: str = ""


def tour(run: str = "") -> Iterator[Step]:
    """Yield what to send, in order. *run*: 32 hex digits that make this run's ids; "": others at every call."""
    run = run or secrets.token_hex(16)
    of_run = f"_{run[:6]}"
    for story, steps in (
        ("surveys", _surveys(of_run)),
        ("campaigns", _campaigns(of_run)),
        ("call_log", _call_log()),
        ("cti", _cti()),
        ("reminders", _reminders(of_run, f"SM{run}")),
        ("troubles", _troubles(of_run)),
    ):
        for source, sample, note in steps:
            yield Step(source, sample, story, note)


Steps = Iterator[tuple[str, Sample, str]]


def _surveys(of_run: str) -> Steps:
    answered = {"call.initiated": 50, "call.ringing": 48, "call.answered": 42, "call.amd": 40, "call.completed": 0}
    for note, types in (
        ("Ann answers", {**answered, "recording.completed": 0}),
        ("Ben's line is busy", {"call.initiated": 10, "call.busy": 0}),
        ("Cem doesn't answer", {"call.initiated": 30, "call.ringing": 28, "call.no_answer": 0}),
    ):
        name = note[:3].lower() + of_run
        query = {"campaign_id": f"survey{of_run}", "contact_id": name, "call_id": f"call_{name}"}
        for sample in _samples(types, subject_id=_call_sid(), query=query):
            yield "twilio", sample, note


def _campaigns(of_run: str) -> Steps:
    campaign = {"call": {"campaignId": f"vapi{of_run}"}}
    for note, types in (
        ("a call is answered",
         {"call.queued": 50, "call.ringing": 48, "call.answered": 42, "call.completed": 0, "call.report": 0}),
        ("a line is busy", {"call.queued": 10, "call.ringing": 8, "call.busy": 0}),
    ):  # fmt: skip
        for sample in _samples(types, subject_id=str(uuid4()), override=campaign):
            yield "vapi", sample, note


def _call_log() -> Steps:
    for note, types in (
        ("a caller is answered", {"call.ringing": 45, "call.answered": 42, "call.completed": 0}),
        ("another hangs up", {"call.ringing": 12, "call.no_answer": 0}),
    ):
        call = _call_sid()
        yield "twilio-voice", Sample("call.incoming", call), note
        for sample in _samples(types, subject_id=call, override={"Direction": "inbound"}):
            yield "twilio", sample, note


def _cti() -> Steps:
    for note, types in (
        ("an agent talks", {"call.ringing": 51, "call.answered": 43, "call.completed": 0, "recording.completed": 0}),
        ("a call is missed", {"call.ringing": 20, "call.missed": 1, "call.no_answer": 0}),
        ("an SMS comes in", {"message.received": 60}),
        ("an SMS goes out", {"message.queued": 2, "message.delivered": 0}),
    ):
        for sample in _samples(types, subject_id=str(2**52 + secrets.randbelow(2**52))):
            yield "dialpad", sample, note


def _reminders(of_run: str, sms: str) -> Steps:
    for sample in _samples({"call.answered": 45, "call.completed": 0}, subject_id=f"paid{of_run}"):
        yield "agent", sample, "answered: will pay"
    missed = {"outcome": {"connected": False, "duration": 0, "customer_response": "no_answer"}}
    yield "agent", Sample("call.completed", f"missed{of_run}", missed), "nobody answers"
    yield "agent", Sample("call.answered", f"talking{of_run}"), "still talking"
    for sample in _samples({"message.sent": 0, "message.delivered": 0}, subject_id=sms):
        yield "twilio", sample, "by SMS"


def _troubles(of_run: str) -> Steps:
    call = _call_sid()
    yield "twilio", Sample("call.initiated", call), "of a new call"
    yield "twilio", Sample("call.initiated", call), "a duplicate: the same event again"
    yield "twilio", Sample("call.completed", call, forged=True), "forged: signed with another token"
    yield "twilio", Sample("call.busy", call), "the call's end"
    yield "twilio", Sample("call.ringing", call, ago=5), "late: comes after the end, and changes nothing"
    yield "vapi", Sample("dialogue.turn"), "a type that no handler is for"
    yield "agent", Sample("call.completed", f"unknown{of_run}"), "of a reminder that doesn't exist: a dead letter"
    notes = {"outcome": {"connected": True, "duration": 12, "notes": "demo: fails once"}}
    yield "agent", Sample("call.completed", f"flaky{of_run}", notes), "its handler fails once, then succeeds"


def _samples(types: Mapping[str, float], **same: Any) -> list[Sample]:
    """Return a sample a type, with what all of them have; a type's number: how many seconds ago it happened."""
    return [Sample(event_type, ago=ago, **same) for event_type, ago in types.items()]


def _call_sid() -> str:
    return f"CA{secrets.token_hex(16)}"
