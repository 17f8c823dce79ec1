"""The first command of the README, as a newcomer runs it."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from processor import postgres_binaries
from tests.conftest import reachable_directory
from tests.processes import wait_for

try:
    postgres_binaries.package()
except postgres_binaries.Unavailable as reason:
    pytestmark = pytest.mark.skip(reason=str(reason))


@pytest.fixture(scope="module")
def data_dir():
    with reachable_directory() as directory:
        yield directory / "db"


SHOWN = {
    "contacts, call_attempts, dialogues": [
        r"ann_\w{6} +PENDING +- +human +42 +yes +\d\d:\d\d:\d\d",
        r"ben_\w{6} +NOT_REACHED +BUSY +- +0 +- +-",
        r"cem_\w{6} +NOT_REACHED +NO_ANSWER +- +0 +- +-",
    ],
    "vapi_calls": [
        r"\w{8}… +ENDED +customer-ended-call +42 +0\.0473 +yes +AI: How can I help\?",
        r"\w{8}… +FAILED +customer-busy +- +- +- +-",
    ],
    "campaign_progress, of both campaigns": [
        r"survey_\w{6} +COMPLETED +3 +0 +1 +2 .*",
        r"vapi_\w{6} +COMPLETED +2 +0 +1 +1 .*",
    ],
    "call_log": [
        r"\S+ +completed +\d\d:\d\d:\d\d +\d+ +42 +200",
        r"\S+ +no_answer +\d\d:\d\d:\d\d +- +0 +487",
    ],
    "cti_calls": [r"ended +inbound +\S+ +38\.2 +51\.0 +yes", r"missed +inbound .*"],
    "messages": [r"inbound +received .*Is my order ready\?", r"outbound +delivered .*Yes, since noon\."],
    "reminders": [
        r"missed_\w{6} +call +pending +no_answer +1 +(59|60) min",
        r"paid_\w{6} +call +completed +will_pay_today +0 +-",
        r"sms_\w{6} +sms +completed +- +0 +-",
        r"talking_\w{6} +call +processing +- +0 +-",
    ],
    "call_events, the log of calls": [
        r"call\.initiated +initiated +- +created",
        r"call\.busy +busy +initiated +moved",
        r"call\.ringing +ringing +busy +late",
    ],
}


def start(data_dir, *options):
    ours = ("DATABASE_URL", "WEBHOOK_SOURCES", "HANDLERS")
    environ = {name: value for name, value in os.environ.items() if name not in ours}
    return subprocess.Popen(
        [sys.executable, "-m", "processor", "demo", "--data-dir", str(data_dir), *options],
        env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def read_until(process, words):
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return "".join(lines)
    raise AssertionError(f"the demo ended without {words!r}:\n{''.join(lines)}")


def find(pattern, text):
    match = re.search(pattern, text, re.MULTILINE)
    assert match, f"no {pattern!r} in:\n{text}"
    return match[1]


def table(title, output):
    """Return the rows below a title, without their headings."""
    lines = find(rf"^  {title}:\n((?:    .+\n)+)", output).splitlines()
    return [line.strip() for line in lines[1:]]


def statuses(dsn, reminder_id):
    with psycopg.connect(dsn) as conn:
        return conn.execute("SELECT status FROM reminders WHERE reminder_id = %s", (reminder_id,)).fetchall()


def left_behind(data_dir):
    """Return the command lines of live processes that belong to the demo in this directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command = (path / "cmdline").read_bytes() + (path / "environ").read_bytes()
        except OSError:
            continue
        if str(data_dir).encode() in command and int(path.name) != os.getpid():
            found.append(command[:200])
    return found


@pytest.fixture(scope="module")
def first_run(data_dir):
    """What a first run printed, having ended by itself."""
    with start(data_dir, "--exit") as demo:
        output = demo.stdout.read()
    assert demo.returncode == 0, output
    return output


def test_exit_sends_the_samples_tells_each_outcome_and_leaves_nothing_running(first_run, data_dir):
    assert "sent 50, refused 1, duplicates 1, stored 48, handled 46, retried 1, no handler 1, dead 1" in first_run
    assert len(re.findall(r"^  POST  (?:twilio|vapi|dialpad|agent)", first_run, re.MULTILINE)) == 25
    besides = "1 call.recording, 5 campaign.call_ended, 2 contact.outcome, 1 reminder.sent"
    assert f"handled besides, of the inbox's own: {besides}" in first_run
    assert find(r"^        (event \d+: handled) at attempt 2$", first_run)
    assert find(r"^        event \d+: (dead letter) \(Discard: no reminder", first_run)
    assert left_behind(data_dir) == []


@pytest.mark.parametrize("title", SHOWN)
def test_it_shows_the_rows_that_came_of_each_story(title, first_run):
    rows = table(title, first_run)

    assert len(rows) == len(SHOWN[title])
    assert all(re.fullmatch(expected, row) for expected, row in zip(SHOWN[title], rows, strict=True)), rows


def test_the_readme_and_the_help_say_how_much_it_sends(first_run):
    sent = find(r"^sent (\d+),", first_run)
    shown = subprocess.run(
        [sys.executable, "-m", "processor", "demo", "--help"], capture_output=True, text=True, check=True
    )

    assert f"sends {sent} signed deliveries" in (Path(__file__).parents[1] / "README.md").read_text()
    assert f"{sent} signed deliveries" in " ".join(shown.stdout.split())


def test_a_second_run_keeps_the_data_and_what_it_prints_can_be_run(data_dir):
    with start(data_dir) as demo:
        output = read_until(demo, "Ctrl-C stops everything")

        dsn = find(r"^  export DATABASE_URL='?(.*?)'?$", output)
        curl = find(r"^  (curl .*)$", output)
        if shutil.which("curl"):
            tried = subprocess.run(curl, shell=True, capture_output=True, text=True, check=True)
            assert " 200 OK" in tried.stdout
            wait_for(lambda: statuses(dsn, find(r"(talking_\w+)", curl)) == [("completed",)], 20)
        update = find(r"^  (\S*psql .*)$", output)
        assert subprocess.run(update, shell=True, capture_output=True, text=True, check=True).stdout == "UPDATE 1\n"
        assert all(len(table(title, output)) == len(SHOWN[title]) for title in SHOWN)
        dead = find(r"id = (\d+)", update)
        asked = [sys.executable, "-m", "processor", "dead", "list"]

        def dead_again():
            shown = subprocess.run(
                asked, env={**os.environ, "DATABASE_URL": dsn}, capture_output=True, text=True, check=False
            )
            return dead in [line.split("\t")[0] for line in shown.stdout.splitlines()]

        wait_for(dead_again, 20)
        assert int(dead) > 50, "a second run goes on after the first one's events"

        demo.send_signal(signal.SIGINT)
        assert demo.wait(30) == 0
    assert left_behind(data_dir) == []


def test_a_demo_interrupted_before_its_samples_are_handled_says_so(data_dir):
    with start(data_dir, "--exit") as demo:
        read_until(demo, "its handler fails once")
        demo.send_signal(signal.SIGINT)
        assert demo.wait(30) == 130
    assert left_behind(data_dir) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_a_killed_demo_leaves_nothing_running_and_starts_again(data_dir):
    with start(data_dir) as demo:
        read_until(demo, "Ctrl-C stops everything")
        demo.kill()
    wait_for(lambda: left_behind(data_dir) == [], 20)

    with start(data_dir, "--exit", "--fresh") as again:
        output = again.stdout.read()
    assert again.returncode == 0, output
    assert int(find(r"event (\d+): dead letter", output)) < 60, "a database of its own, from the beginning"


def test_handlers_of_ones_own_run_beside_those_that_ship(data_dir, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from processor import Discard, on\n"
        "@on('dialogue.turn', provider='vapi')\n"
        "def listen(event, conn):\n"
        "    raise Discard('mine was asked')\n"
    )
    monkeypatch.chdir(tmp_path)

    with start(data_dir, "--exit", "--handlers", "mine") as demo:
        output = demo.stdout.read()

    assert demo.returncode == 0, output
    assert "dead letter (Discard: mine was asked)" in output
    assert "handled 46, retried 1, no handler 0, dead 2" in output


def test_handlers_that_cannot_be_imported_start_nothing(data_dir):
    with start(data_dir, "--exit", "--handlers", "no_such_module") as demo:
        output = demo.stdout.read()

    assert demo.returncode == 78
    assert output.startswith("error: handlers 'no_such_module'")
