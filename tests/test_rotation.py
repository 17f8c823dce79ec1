"""Several secrets a source, from when to when each counts, which one proved an event, and reading them anew."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from benchmarks.server import answers
from processor.children import ended_with_us
from receiver import doctor
from receiver.settings import BadSettings, sources_from
from tests.commands import runner
from tests.http_receiver import rows, settings, toml
from tests.processes import free_port, wait_for
from tests.receiver_fixtures import connection, db, start
from tests.signing import agent_signature

__all__ = ["connection", "db", "start"]

BODY = b'{"reminder_id": "rem_1", "event_type": "call_completed"}'
OLD, NEW = "old-secret-0123456789-0123456789-0", "new-secret-0123456789-0123456789-0"
NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)
TURNING = {
    "name": "turning", "provider": "agent",
    "secrets": [{"ref": "env:NEW", "name": "2026-12", "not_before": NOON},
                {"ref": "env:OLD", "name": "2026-06", "not_after": NOON + timedelta(hours=1)}],
}  # fmt: skip
SECRETS = {"NEW": NEW, "OLD": OLD}


def send(receiver, secret, body=BODY, path="/webhooks/turning"):
    return receiver.send("POST", path, {"x-webhook-signature": agent_signature(body, secret)}, body).status


@pytest.mark.parametrize(
    ("seconds", "statuses"),
    [(-1, [401, 200]), (0, [200, 200]), (3599, [200, 200]), (3600, [200, 401])],
    ids=["before the new one", "at its beginning", "before the old one's end", "at its end"],
)
def test_a_secret_counts_from_its_not_before_until_its_not_after(start, db, seconds, statuses):
    receiver = start([TURNING], SECRETS)
    receiver.now = NOON.timestamp() + seconds

    assert [send(receiver, secret) for secret in (NEW, OLD)] == statuses


def test_each_event_tells_the_name_of_the_secret_that_proved_it(start, db, dsn):
    receiver = start([TURNING, {"name": "plain", "provider": "agent", "secrets": ["env:OLD"]}], SECRETS)
    receiver.now = NOON.timestamp()

    for secret, body in ((NEW, BODY), (OLD, BODY + b" ")):
        assert send(receiver, secret, body) == 200
    assert send(receiver, OLD, BODY, "/webhooks/plain") == 200

    assert [row.verified_by for row in rows(db)] == ["2026-12", "env:OLD"]


def test_where_nothing_is_verified_no_name_is_kept(start, db):
    receiver = start([{"name": "lab", "provider": "dialpad", "insecure": True}], {})

    assert receiver.send("POST", "/webhooks/lab", {}, b'{"state": "ringing"}').status == 200
    assert [row.verified_by for row in rows(db)] == [None]


def test_the_command_shows_which_secret_proved_an_event(start, db, session_database):
    receiver = start([TURNING], SECRETS)
    receiver.now = NOON.timestamp()
    send(receiver, OLD)

    done = runner(session_database)("events", "show", rows(db)[0].id, "--json")

    assert json.loads(done.stdout)["verified_by"] == "2026-06"


def test_where_every_secret_has_ended_deliveries_are_refused(start, db, caplog):
    ended = {**TURNING, "secrets": [{"ref": "env:OLD", "not_after": datetime(2020, 1, 1, tzinfo=UTC)}]}
    receiver = start([ended], SECRETS)

    assert send(receiver, OLD) == 401
    assert any("no secret of the source counts now" in line for line in caplog.messages)


@pytest.fixture
def faults(tmp_path):
    def of(**secret):
        with pytest.raises(BadSettings) as caught:
            settings(tmp_path, "postgresql://x/x", [{**TURNING, "secrets": [{"ref": "env:OLD", **secret}]}], OLD=OLD)
        return caught.value.faults

    return of


@pytest.mark.parametrize(
    ("secret", "words"),
    [
        ({"not_after": datetime(2026, 12, 1)}, "expected a time with its zone"),  # noqa: DTZ001
        ({"not_after": 1_795_168_800}, "datetime"),
        ({"not_after": "2026-12-01"}, "datetime"),
        ({"not_before": NOON, "not_after": NOON}, "expected a time before not_after"),
        ({"ref": "env:MISSING"}, "MISSING is not set"),
        ({"ref": OLD}, "expected secrets as env:NAME or file:PATH"),
        ({"until": NOON}, "extra inputs are not permitted"),
    ],
)
def test_what_a_secret_may_not_be_stops_the_start(faults, secret, words):
    (fault,) = faults(**secret)

    assert words in fault
    assert OLD not in fault


def test_two_secrets_of_one_name_can_not_be_told_apart(tmp_path):
    with pytest.raises(BadSettings, match="two secrets are named 'env:OLD'"):
        settings(tmp_path, "postgresql://x/x", [{**TURNING, "secrets": ["env:OLD", "env:OLD"]}], OLD=OLD)


def test_a_default_source_takes_the_secret_until_now_too():
    (source,) = sources_from({"WEBHOOK_SECRET": NEW, "WEBHOOK_SECRET_OLD": OLD})

    assert [(one.name, one.value.decode()) for one in source.secrets] == [
        ("env:WEBHOOK_SECRET", NEW), ("env:WEBHOOK_SECRET_OLD", OLD),
    ]  # fmt: skip


@pytest.mark.parametrize("days", [-1, 6, 8])
def test_the_doctor_warns_of_a_secret_a_week_before_its_end(tmp_path, days):
    now = time.time()
    dated = {**TURNING, "secrets": ["env:NEW", {"ref": "env:OLD", "not_after": datetime.now(UTC) + timedelta(days)}]}
    (source,) = settings(tmp_path, "postgresql://x/x", [dated], **SECRETS).sources

    found = [(one.level, one.found) for one in doctor.dates(source, now)]

    ends = f"turning: env:OLD {'ended' if days < 0 else 'ends'} on "
    assert [(level, words.startswith(ends)) for level, words in found] == ([("warn", True)] if days < 8 else [])


def test_the_doctor_fails_a_source_of_which_no_secret_counts(tmp_path):
    dated = {**TURNING, "secrets": [{"ref": "env:OLD", "not_after": datetime(2020, 1, 1, tzinfo=UTC)}]}
    (source,) = settings(tmp_path, "postgresql://x/x", [dated], **SECRETS).sources

    assert [one.level for one in doctor.dates(source, time.time())] == ["warn", "FAIL"]


class Running:
    """A receiver as a process, with a sources file that can be written anew."""

    def __init__(self, dsn, directory, early=0):
        self.port, self.dsn = free_port(), dsn
        self.file, self.secret, self.log = (directory / name for name in ("sources.toml", "secret", "log"))
        self.write(OLD)
        environ = {**os.environ, "DATABASE_URL": dsn, "WEBHOOK_SOURCES": str(self.file)}
        command = [sys.executable, "-m", "receiver", "run", "--port", str(self.port)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, env=environ, stdout=log, stderr=log, **ended_with_us(signal.SIGKILL)
            )
        wait_for(lambda: "http://" in self.log.read_text())  # it has read them
        for _ in range(early):
            self.process.send_signal(signal.SIGHUP)
        wait_for(lambda: answers(self.port))

    def write(self, secret, more=""):
        self.secret.write_text(secret)
        source = {"name": "agent", "provider": "agent", "secrets": [f"file:{self.secret}"]}
        self.file.write_text("[[source]]\n" + "".join(f"{k} = {toml(v)}\n" for k, v in source.items()) + more)

    def reload(self, words):
        """Send SIGHUP, and wait for these words in the log."""
        seen = self.log.read_text().count(words)
        self.process.send_signal(signal.SIGHUP)
        wait_for(lambda: self.log.read_text().count(words) > seen)

    def post(self, secret, number=0):
        """Return the status of a delivery on a connection of its own."""
        import http.client  # noqa: PLC0415

        body = BODY + b" " * number
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        client.request("POST", "/webhooks/agent", body, {"x-webhook-signature": agent_signature(body, secret)})
        try:
            return client.getresponse().status
        finally:
            client.close()


@pytest.fixture
def running(dsn, tmp_path):
    one = Running(dsn, tmp_path)
    yield one
    one.process.terminate()
    one.process.wait(20)


def test_at_a_hangup_sources_and_secrets_are_read_again(running):
    assert [running.post(secret) for secret in (OLD, NEW)] == [200, 401]

    running.write(NEW)
    running.reload("reloaded sources=1 secrets=1")

    assert [running.post(secret) for secret in (OLD, NEW)] == [401, 200]


def test_a_hangup_while_it_starts_is_heard(dsn, tmp_path):
    running = Running(dsn, tmp_path, early=1)
    try:
        wait_for(lambda: "reloaded sources=1" in running.log.read_text())
        assert running.post(OLD) == 200
    finally:
        running.process.terminate()
        running.process.wait(20)


def test_with_a_fault_the_old_sources_go_on_and_every_fault_is_logged(running):
    running.write("", '[[source]]\nname = "more"\nprovider = "telnyx"\n')
    running.reload("reload refused faults=2; the old sources go on")

    assert running.post(OLD) == 200
    assert "reload refused fault=source 'agent'" in running.log.read_text()
    assert "reload refused fault=source 'more': unknown provider 'telnyx'" in running.log.read_text()


def test_no_request_is_dropped_while_sources_are_read_again(running, dsn):
    statuses: list[int] = []
    stop = threading.Event()

    def deliver():
        while not stop.is_set():
            statuses.append(running.post(OLD, len(statuses) % 50))

    sender = threading.Thread(target=deliver)
    sender.start()
    for _ in range(10):
        running.reload("reloaded sources=1")
    wait_for(lambda: len(statuses) > 20)
    stop.set()
    sender.join()

    assert set(statuses) == {200}
    with psycopg.connect(dsn) as conn:
        assert conn.execute("SELECT count(*) FROM webhook_events").fetchone() == (1,)
