"""A canary in every field of every path: nothing of a secret, a number or a body is in a log or an answer.

A receiver and a processor take deliveries that hold a phone number, and text that would forge a log line or steer a
terminal, in each place where a stranger or a provider can put something. What they print and answer is read whole.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from benchmarks.server import answers
from processor.children import ended_with_us
from tests.commands import runner
from tests.conftest import empty
from tests.http_receiver import Receiver, Reply
from tests.processes import free_port
from tests.receiver_fixtures import AGENT_SECRET, BASE_URL, DIALPAD_SECRET, TOKEN, VAPI_SECRET
from tests.signing import Signed, agent, dialpad, twilio, vapi

PHONE = "+15559998877"
MARKS = ("5559998877", "canary")
HOSTILE = f"canary {PHONE}\r\n2026-01-01 00:00:00,000 INFO receiver canary forged\x1b[2J\x1b[31m\u202e\u2028\0"
SECRETS = {
    "TWILIO_AUTH_TOKEN": TOKEN,
    "VAPI_WEBHOOK_SECRET": VAPI_SECRET,
    "DIALPAD_WEBHOOK_SECRET": DIALPAD_SECRET,
    "WEBHOOK_SECRET": AGENT_SECRET,
}
HEADERS = [
    "x-twilio-signature",
    "x-vapi-secret",
    "x-vapi-signature",
    "x-webhook-signature",
    "webhook-signature",
    "webhook-id",
    "webhook-timestamp",
    "authorization",
    "cookie",
    "content-type",
    "content-encoding",
    "host",
    "user-agent",
    "x-forwarded-host",
    "forwarded",
    "x-request-id",
    "expect",
]
LINE = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (DEBUG|INFO|WARNING|ERROR) [a-z.]+ .+|\S+ +https://hooks\.example\.com/\S+"
)
PASSWORD = "CANARYPASSWORD"


def values() -> Iterator[str]:
    yield PHONE
    yield HOSTILE


def twilio_deliveries() -> Iterator[Signed]:
    fields = {"CallSid": "CA1", "CallStatus": "ringing", "From": "+15555550100", "To": "+15555550142",
              "SequenceNumber": "1", "MessageSid": "SM1", "MessageStatus": "sent", "Body": "hi", "Timestamp": "now",
              "RecordingUrl": "https://a"}  # fmt: skip
    for value in values():
        for name in fields:
            yield twilio({**fields, name: value}.items())
        yield twilio({**fields, value: "1"}.items())
        yield twilio(fields.items(), f"/webhooks/twilio?{quote(value)}={quote(value)}")
    for status in ("ringing", "in-progress", "completed", "failed"):
        yield twilio([("CallSid", f"CA{status}"), ("CallStatus", status), ("From", PHONE), ("To", PHONE)])


def vapi_deliveries() -> Iterator[Signed]:
    message = {"type": "status-update", "status": "ringing", "call": {"id": "c", "customer": {"number": PHONE}},
               "timestamp": 1, "endedReason": "busy", "transcript": "canary"}  # fmt: skip
    for value in values():
        for name in message:
            yield vapi(json.dumps({"message": {**message, name: value}}).encode())
        yield vapi(json.dumps({"message": {**message, "call": {"id": value}}}).encode())
        yield vapi(json.dumps({value: message}).encode())
        yield vapi(value.encode())


def dialpad_deliveries() -> Iterator[Signed]:
    call = {"call_id": "1", "state": "ringing", "event_timestamp": 1, "contact": {"phone": PHONE},
            "direction": "inbound", "external_number": PHONE, "id": 1, "text": "canary"}  # fmt: skip
    for value in values():
        for name in call:
            yield dialpad(json.dumps({**call, name: value}).encode())
        yield dialpad(value.encode())


def agent_deliveries() -> Iterator[Signed]:
    event = {
        "reminder_id": "r",
        "event_type": "call_failed",
        "event_id": "e",
        "outcome": "o",
        "timestamp": "t",
        "phone": PHONE,
    }
    for value in values():
        for name in event:
            yield agent(json.dumps({**event, name: value}).encode())
        yield agent(value.encode())
    yield agent(json.dumps({"event_type": PHONE, "reminder_id": PHONE, "event_id": PHONE}).encode())


def deliveries() -> Iterator[Signed]:
    yield from twilio_deliveries()
    yield from vapi_deliveries()
    yield from dialpad_deliveries()
    yield from (replace(sent, target="/webhooks/agent") for sent in agent_deliveries())


def forgeries() -> Iterator[Signed]:
    """Yield the same with another signature, and canaries in what surrounds a body."""
    for sent in deliveries():
        # What Vapi sends is proven by a header, and that of the others by their body.
        secret = {"x-vapi-secret": "canary"} if "x-vapi-secret" in sent.headers else {}
        yield replace(sent, body=b"canary" + sent.body, headers=sent.headers | secret)
    header = HOSTILE.encode().replace(b"\r\n", b" ").replace(b"\0", b"")
    for name in HEADERS:
        for path in ("twilio", "vapi", "dialpad", "agent"):
            yield Signed(f"/webhooks/{path}", b"canary", {name: header})
    for target in (f"/{PHONE}", f"/webhooks/{quote(HOSTILE)}", f"/webhooks/twilio?token={quote(HOSTILE)}"):
        for method in ("POST", "GET", "BREW"):
            yield Signed(target, b"", {}, method)
    yield Signed("/webhooks/agent", b"canary" * 300_000)


class Elsewhere(Receiver):
    """A receiver that is a process of its own."""

    def __init__(self, port: int) -> None:
        self.address = ("127.0.0.1", port)


@contextmanager
def running(arguments: list[str], output: Path, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    with output.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments], env={**os.environ, **environ}, stdin=subprocess.DEVNULL,
            stdout=log, stderr=subprocess.STDOUT, **ended_with_us(signal.SIGKILL),
        )  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)


@pytest.fixture(scope="module")
def told(session_database, tmp_path_factory):
    """What a receiver logged, answered and called itself while it took all these."""
    empty(session_database)
    port, log = free_port(), tmp_path_factory.mktemp("receiver") / "log"
    environ = {"DATABASE_URL": session_database, "BASE_URL": BASE_URL, "LOG_LEVEL": "DEBUG", **SECRETS}
    with running(["receiver", "run", "--port", str(port)], log, **environ) as process:
        until = time.monotonic() + 60
        while not answers(port):
            assert time.monotonic() < until
        receiver = Elsewhere(port)
        genuine = [sent.to(receiver) for sent in deliveries()]
        refused = [sent.to(receiver) for sent in forgeries()]
        title = Path(f"/proc/{process.pid}/cmdline").read_bytes() if Path("/proc/self").exists() else b""
        with psycopg.connect(session_database) as conn:
            seen = conn.execute(
                "SELECT query FROM pg_stat_activity WHERE application_name = 'inbox-receiver'"
            ).fetchall()
    return genuine, refused, log.read_text(encoding="utf-8"), title.decode() + str(seen)


def leaked(text: str) -> set[str]:
    """Return which canaries and secrets are in *text*."""
    return {mark for mark in (*MARKS, *SECRETS.values()) if mark in text}


def whole(reply: Reply) -> str:
    return f"{reply.headers}{reply.body!r}"


def test_the_deliveries_were_taken_and_the_forgeries_were_not(told):
    genuine, refused, *_ = told

    assert {reply.status for reply in genuine} == {200}
    assert {reply.status for reply in refused} <= {400, 401, 405, 413, 415, 417}


def test_no_answer_holds_a_canary(told):
    genuine, refused, *_ = told

    assert [whole(reply) for reply in [*genuine, *refused] if leaked(whole(reply))] == []


def test_no_line_of_the_receivers_log_holds_a_canary(told):
    assert [line for line in told[2].splitlines() if leaked(line)] == []


def test_whatever_was_sent_each_line_is_one_of_ours(told):
    assert [line for line in told[2].split("\n")[:-1] if not LINE.fullmatch(line) or not line.isprintable()] == []


def test_neither_the_process_list_nor_the_databases_shows_a_canary(told):
    assert leaked(told[3]) == set()


@pytest.fixture(scope="module")
def handled(told, session_database, tmp_path_factory):
    """What a processor logged whose handlers raise what they were given, of the same deliveries."""
    log = tmp_path_factory.mktemp("processor") / "log"
    with psycopg.connect(session_database, autocommit=True) as conn:
        conn.execute("CREATE TABLE leaky (value text CHECK (value = ''))")
        arguments = ["processor", "run", "--once", "--handlers", "tests.leaky_handlers"]
        with running(arguments, log, DATABASE_URL=session_database, LOG_LEVEL="DEBUG") as process:
            process.wait(120)
        states = conn.execute("SELECT count(*), count(dead_at), count(processed_at) FROM webhook_events").fetchone()
        conn.execute("DROP TABLE leaky")
    return log.read_text(encoding="utf-8"), states


def test_each_event_was_attempted(handled):
    count, dead, processed = handled[1]

    assert (count, dead > 20) == (dead + processed, True)


def test_no_line_of_the_processors_log_holds_a_canary(handled):
    assert [line for line in handled[0].splitlines() if leaked(line)] == []
    assert handled[0].count("cause=") > 20


def test_each_line_of_the_processors_log_is_one_of_ours(handled):
    assert [line for line in handled[0].split("\n")[:-1] if not LINE.fullmatch(line) or not line.isprintable()] == []


@pytest.mark.parametrize(
    "arguments",
    ["status", "dead list", "dead groups", "events list", "events tail --last 500", "events show 1"],
)
def test_what_an_operator_is_shown_steers_no_terminal(arguments, handled, session_database):
    done = runner(session_database)(*arguments.split())

    assert [line for line in done.stdout.split("\n") if not line.replace("\t", "").isprintable()] == []


@pytest.mark.parametrize(
    "url",
    [
        f"postgres//inbox:{PASSWORD}@localhost/inbox",
        f"postgresql://inbox:{PASSWORD}@localhost:notaport/inbox",
        f"postgresql://inbox:{PASSWORD}%@localhost/inbox",
        f"postgresql://inbox:{PASSWORD}@localhost:1/inbox",
        f"postgresql://inbox:{PASSWORD}@localhost/inbox?nonsense=1",
        f"host=localhost port=1 password={PASSWORD} user='",
        f"host=127.0.0.1 port=1 password={PASSWORD}",
        f"postgresql://inbox:{PASSWORD}@[::1/inbox",
    ],
)
@pytest.mark.parametrize("command", ["receiver doctor", "processor doctor", "processor status", "processor run --once",
                                     "receiver refusals", "processor db migrate"])  # fmt: skip
def test_no_error_about_the_address_of_the_database_holds_its_password(command, url):
    module, *arguments = command.split()

    done = runner(url, module)(*arguments, WEBHOOK_SECRET=AGENT_SECRET)

    assert done.returncode != 0
    assert PASSWORD not in done.stdout + done.stderr
    assert AGENT_SECRET not in done.stdout + done.stderr
