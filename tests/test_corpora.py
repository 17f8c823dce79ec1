"""Lists of text that broke other programs, signed and in every field: stored, read back as they were, nothing run."""

import json

import pytest

from processor import operations, pauses, registry
from processor.operations import Filter
from processor.pauses import Target
from receiver.reading import clean
from tests.corpora import CORPORA, INJECTIONS, NAUGHTY, json_files, naughty_strings
from tests.http_receiver import rows
from tests.inbox import process
from tests.receiver_fixtures import connection, db, receiver, start
from tests.signing import JSON_SENDERS, agent, dialpad, twilio, vapi

__all__ = ["connection", "db", "receiver", "start"]

needs_corpora = pytest.mark.skipif(not CORPORA, reason="CORPORA names no directory with the public lists' clones")


def form(text):
    fields = ("CallSid", "CallStatus", "From", "To", "Body", "SequenceNumber")
    return twilio([*((name, text) for name in fields), (text or "empty", "x")])


def flat(text):
    fields = ("event_id", "reminder_id", "event_type", "id", "type", "timestamp", "notes", text)
    return agent(json.dumps(dict.fromkeys(fields, text)).encode())


def nested(text):
    message = {"type": text, "status": text, "timestamp": text, "transcript": text,
               "call": {"id": text, "customer": {"number": text}}}  # fmt: skip
    return vapi(json.dumps({"message": message}, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def token(text):
    fields = ("call_id", "state", "event_timestamp", "id", "text", "event_type")
    return dialpad(json.dumps({**dict.fromkeys(fields, text), "contact": {"phone": text}}).encode())


# A sender of any text for each provider, and where the payload has it again.
SENDERS = {
    "agent": (flat, lambda payload: payload["notes"]),
    "vapi": (nested, lambda payload: payload["message"]["call"]["customer"]["number"]),
    "dialpad": (token, lambda payload: payload["contact"]["phone"]),
    "twilio": (form, lambda payload: payload["Body"]),
}


def assert_kept(sender, texts, receiver, db):
    send, found = SENDERS[sender]
    sent = {send(text).body: text for text in texts}

    assert {send(text).to(receiver).status for text in texts} == {200}

    stored = {row.body: found(row.payload) for row in rows(db)}
    assert stored == {body: clean(text) for body, text in sent.items()}


@pytest.mark.parametrize("sender", SENDERS)
def test_text_that_breaks_programs_comes_back_as_it_was_from_any_field(sender, receiver, db):
    assert_kept(sender, NAUGHTY, receiver, db)


@pytest.mark.parametrize("sender", SENDERS)
def test_sql_in_any_field_is_text(sender, receiver, db):
    assert_kept(sender, INJECTIONS, receiver, db)


@needs_corpora
@pytest.mark.parametrize("sender", SENDERS)
def test_every_naughty_string_of_the_public_list_comes_back_as_it_was(sender, receiver, db):
    assert_kept(sender, naughty_strings(), receiver, db)


@needs_corpora
@pytest.mark.parametrize("sender", JSON_SENDERS)
def test_every_file_of_the_public_json_suite_is_stored_and_what_isnt_json_is_dead(sender, receiver, db):
    files, dead = json_files(), {}
    for name, body in files.items():
        db.execute("DELETE FROM webhook_events")
        sent = JSON_SENDERS[sender](body)
        assert (name, sent.to(receiver).status) == (name, 200)
        assert {row.body for row in rows(db)} == {sent.body}
        dead[name] = any(row.dead_at is not None for row in rows(db))

    assert len(files) == 318
    # A delivery of Twilio without a body is one: its fields may all stand in the URL.
    empty = {"n_structure_no_data"} if sender == "twilio" else set()
    assert {name for name in files if name.startswith("n_") and not dead[name]} == empty
    assert [name for name in files if name.startswith("y_object") and dead[name]] == []


def test_events_of_such_types_find_no_handler_and_are_closed(receiver, db, monkeypatch):
    monkeypatch.setattr(registry, "HANDLERS", [])
    for text in INJECTIONS:
        flat(text).to(receiver)

    process(db)

    assert {row.outcome for row in rows(db)} == {"no_handler"}


def filters(text):
    yield Filter(source=text)
    yield Filter(type=text)
    yield Filter(subject=text)
    yield Filter(error=text)


# A NUL is refused by the driver before it is sent: no operator can type one.
@pytest.mark.parametrize("text", [text for text in INJECTIONS if "\0" not in text])
def test_sql_in_an_operators_filter_finds_what_is_called_so(text, receiver, db):
    agent(b'{"reminder_id":"r"}').to(receiver)
    columns = {"source": text, "event_type": text, "subject": text, "last_error": text}
    statement = "INSERT INTO webhook_events (provider, event_id, payload, {}) VALUES ('agent', 'x', '1', {})"
    names, marks = ", ".join(columns), ", ".join(["%s"] * len(columns))
    (named,) = db.execute(statement.format(names, marks).encode() + b" RETURNING id", [*columns.values()]).fetchone()

    for wanted in filters(text):
        assert operations.find(db, wanted, newest=True, most=10) == [named]


@pytest.mark.parametrize("text", [text for text in INJECTIONS if "\0" not in text])
def test_sql_in_the_name_of_what_is_paused_is_a_name(text, db):
    target = Target("type", text)
    pauses.pause(db, [target], None, text)
    try:
        assert [(row["name"], row["reason"]) for row in pauses.pauses(db)] == [(text, text)]
    finally:
        pauses.resume(db, [target], text)
