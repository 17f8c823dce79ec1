"""`receiver check twilio` passes our receiver, and fails a deployment for each thing that Twilio can't use."""

import json
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner
from twilio.request_validator import RequestValidator

from receiver.check import check
from receiver.check_report import report
from receiver.check_twilio import Deployment, answer_times, examine
from tests.http_receiver import duplicates, rows
from tests.processes import free_port
from tests.receiver_fixtures import BASE_URL, TOKEN, connection, db, twilio_defaults

__all__ = ["connection", "db", "twilio_defaults"]

PATHS = {"incoming": "/incoming", "reminder": "/reminder", "status": "/status"}
SKIPPED = ("--incoming-path", "", "--reminder-path", "", "--status-path", "")
OURS = {
    "incoming": "/api/v1/webhooks/incoming-call",
    "reminder": "/api/v1/webhooks/incoming-reminder",
    "status": "/api/v1/webhooks/call-status",
}


def command(*arguments, **environ):
    return subprocess.run(
        [sys.executable, "-m", "receiver", "check", "twilio", *arguments], env={"PATH": "", **environ},
        capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def to(receiver):
    return "--url", BASE_URL, "--to", "{}:{}".format(*receiver.address)


# Our own receiver.


def test_our_receiver_passes(twilio_defaults, db):
    done = command(*to(twilio_defaults), TWILIO_AUTH_TOKEN=TOKEN)

    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        "\nok    incoming call: stream              wss://hooks.example.com/api/v1/voice/media-stream\n" in done.stdout
    )
    assert ", 0 failed, " in done.stdout.splitlines()[-1]
    assert TOKEN not in done.stdout


def test_it_leaves_calls_that_can_be_told_and_are_new_each_time(twilio_defaults, db):
    checked = Deployment(
        BASE_URL, "http://{}:{}".format(*twilio_defaults.address), TOKEN.encode(), "+15555550142", OURS
    )

    first = list(examine(checked))
    calls = {row.subject for row in rows(db)}
    again = list(examine(checked))

    assert {one.level for one in [*first, *again]} <= {"ok", "warn"}
    assert all(subject.startswith("call/CA7e57") and len(subject) == len("call/CA") + 32 for subject in calls)
    assert (len(rows(db)), len({row.subject for row in rows(db)}), len(calls), len(duplicates(db))) == (22, 14, 7, 2)


def test_every_status_is_played_and_stored(twilio_defaults, db):
    command(*to(twilio_defaults), "--incoming-path", "", "--reminder-path", "", TWILIO_AUTH_TOKEN=TOKEN)

    assert [row.payload["CallStatus"] for row in rows(db)] == [
        "queued", "initiated", "ringing", "in-progress", "completed", "busy", "no-answer", "failed", "canceled",
    ]  # fmt: skip
    assert {row.source for row in rows(db)} == {"twilio"}


def test_with_another_token_nothing_is_taken_and_it_says_what_to_look_at(twilio_defaults, db):
    done = command(*to(twilio_defaults), "--json", TWILIO_AUTH_TOKEN="0" * 32)

    found = [json.loads(line) for line in done.stdout.splitlines()]
    failed = [(one["name"], one["expected"], one["got"]) for one in found if one["level"] == "FAIL"]
    assert done.returncode == 1
    assert failed[:2] == [("incoming call", "200", "401"), ("reminder call", "200", "401")]
    assert len(failed) == 2 + 9
    assert "TWILIO_AUTH_TOKEN" in found[0]["fix"]
    assert rows(db) == []


@pytest.mark.parametrize(
    ("arguments", "environ", "told"),
    [
        (["--url", BASE_URL], {}, "no TWILIO_AUTH_TOKEN"),
        (["--url", "https://your-domain.example"], {"TWILIO_AUTH_TOKEN": TOKEN}, "still the placeholder"),
        (["--url", BASE_URL, "--to", "http://127.0.0.1/x"], {"TWILIO_AUTH_TOKEN": TOKEN}, "--to: expected"),
        (["--url", BASE_URL, *SKIPPED], {"TWILIO_AUTH_TOKEN": TOKEN}, "nothing to check"),
        (["--url", BASE_URL, "--status-path", "x"], {"TWILIO_AUTH_TOKEN": TOKEN}, "expected a path such as /api"),
    ],
)
def test_what_can_not_be_checked_is_wrong_usage(arguments, environ, told):
    done = CliRunner().invoke(check, ["twilio", *arguments], env={"TWILIO_AUTH_TOKEN": None, **environ})

    assert (done.exit_code, done.stdout) == (2, "")
    assert told in " ".join(done.stderr.split())


def test_where_nobody_answers_is_exit_69():
    assert command("--url", f"http://127.0.0.1:{free_port()}", TWILIO_AUTH_TOKEN=TOKEN).returncode == 69


# A deployment of somebody else's, which is well but for one thing.


@dataclass(frozen=True)
class Deployed:
    """What the other deployment does."""

    verifies: bool = True
    status: int = 200
    call_status: int = 204
    media_type: str = "text/xml; charset=utf-8"
    before: str = ""
    stream: str = "wss://voice.example/stream"
    parameters: tuple[str, ...] = ("From", "To", "CallSid", "reminder_id")
    twiml: str = ""
    counts: bool = False


def twiml(deployed, fields, count):
    if deployed.twiml:
        return deployed.twiml
    stream = ET.Element("Stream", url=deployed.stream)
    for name in deployed.parameters:
        ET.SubElement(stream, "Parameter", name=name, value=fields.get(name, ""))
    text = ET.tostring(stream, encoding="unicode")
    number = f"<!-- {count} -->" if deployed.counts else ""
    return f"<Response>{deployed.before}<Connect>{text}</Connect>{number}</Response>"


@contextmanager
def serving(deployed, prefix=""):
    """Yield the base URL of such a deployment."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            fields = dict(parse_qsl(body, keep_blank_values=True))
            url, signature = f"{origin}{self.path}", self.headers.get("x-twilio-signature", "")
            seen.append(self.path)
            if deployed.status == 0:
                self.close_connection = True
            elif deployed.verifies and not RequestValidator(TOKEN).validate(url, fields, signature):
                self.answer(403)
            elif self.path.startswith(f"{prefix}/status"):
                self.answer(deployed.call_status)
            else:
                query = dict(parse_qsl(urlsplit(self.path).query))
                self.answer(deployed.status, twiml(deployed, fields | query, len(seen)))

        def answer(self, status, text=""):
            self.send_response(status)
            self.send_header("content-type", deployed.media_type)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    origin = "http://{}:{}".format(*server.server_address)
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    try:
        yield origin + prefix
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def failed(deployed):
    """Return the names of the checks that fail."""
    with serving(deployed) as url:
        return [
            one.name
            for one in examine(Deployment(url, "", TOKEN.encode(), "+15555550142", PATHS))
            if one.level == "FAIL"
        ]


def test_another_deployment_that_is_well_passes():
    before = '<Say language="de">Guten Tag</Say><Pause length="1"/>'

    assert failed(Deployed()) == []
    assert failed(Deployed(media_type="application/xml", before=before)) == []


def test_a_prefix_of_the_public_url_is_called_and_signed():
    with serving(Deployed(), "/eu") as url:
        checks = list(examine(Deployment(url, "", TOKEN.encode(), "+15555550142", PATHS)))

    assert [one for one in checks if one.level == "FAIL"] == []


EACH = ("incoming call", "reminder call")
CONNECT = '<Connect><Stream url="wss://voice.example/stream"/></Connect>'


@pytest.mark.parametrize(
    ("fault", "names"),
    [
        ({"media_type": "text/plain"}, [f"{call}: media type" for call in EACH]),
        ({"twiml": "ok"}, [f"{call}: TwiML" for call in EACH]),
        ({"twiml": "<Response/>"}, [f"{call}: TwiML" for call in EACH]),
        ({"twiml": "<Response><Connect/></Response>"}, [f"{call}: TwiML" for call in EACH]),
        ({"twiml": f"<!DOCTYPE a><Response>{CONNECT}</Response>"}, [f"{call}: TwiML" for call in EACH]),
        ({"twiml": f"<Response>{CONNECT}{CONNECT}</Response>"}, [f"{call}: TwiML" for call in EACH]),
        ({"twiml": f"<Reply>{CONNECT}</Reply>"}, [f"{call}: TwiML" for call in EACH]),
        ({"before": "<Play>https://voice.example/a.mp3</Play>"}, [f"{call}: TwiML" for call in EACH]),
        ({"stream": "http://voice.example/stream"}, [f"{call}: stream" for call in EACH]),
        ({"stream": "ws://voice.example/stream"}, [f"{call}: stream" for call in EACH]),
        ({"stream": "wss://https://voice.example/stream"}, [f"{call}: stream" for call in EACH]),
        ({"stream": "wss://voice.example/stream?call=1"}, [f"{call}: stream" for call in EACH]),
        ({"stream": "wss://[voice"}, [f"{call}: stream" for call in EACH]),
        ({"parameters": ("From", "To", "CallSid")}, ["reminder call: parameter reminder_id"]),
        ({"parameters": ("To", "CallSid", "reminder_id")}, [f"{call}: parameter From" for call in EACH]),
        ({"counts": True}, ["incoming call, repeated"]),
        ({"status": 500}, list(EACH)),
        ({"status": 301}, list(EACH)),
        ({"verifies": False}, [f"{path}, {forgery}" for path in PATHS
                               for forgery in ("a wrong signature", "no signature", "a changed body")]),
    ],
)  # fmt: skip
def test_each_fault_fails_its_own_check(fault, names):
    assert failed(replace(Deployed(), **fault)) == names


def test_a_status_that_is_refused_fails_for_each_status():
    assert len(failed(Deployed(call_status=500))) == 9


def test_a_connection_that_is_closed_without_an_answer_is_a_fail_and_not_nobody():
    with serving(Deployed(status=0)) as url:
        first, *_ = examine(Deployment(url, "", TOKEN.encode(), "+15555550142", PATHS))

    assert (first.level, first.got.partition(" (")[0]) == ("FAIL", "no answer")


@pytest.mark.parametrize(
    ("times", "level"), [([3.0, 100.0], "ok"), ([3.0, 101.0], "warn"), ([3.0, 14_999.0], "warn"), ([15_000.0], "FAIL")]
)
def test_slow_answers_are_a_warning_and_too_slow_ones_a_fail(times, level):
    assert answer_times(times).level == level


def test_a_failure_says_what_was_expected_and_what_came_on_one_line():
    printed: list[str] = []

    with serving(Deployed(stream="http://voice.example/\u202estream")) as url:
        code = report(
            examine(Deployment(url, "", TOKEN.encode(), "+15555550142", PATHS)), printed.append, as_json=False
        )

    assert code == 1
    (line, _) = (line for line in printed if line.startswith("FAIL"))
    assert line.startswith(
        "FAIL  incoming call: stream: expected a wss:// URL without a query, got http://voice.example/\\u202estream; "
    )
    assert printed[-1].partition(" in ")[0].endswith(" passed, 2 failed, 0 warnings")
