"""The first command of the README, as a newcomer runs it."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

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


def start(data_dir, *options):
    environ = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "WEBHOOK_SOURCES")}
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


def test_exit_sends_the_samples_tells_each_outcome_and_leaves_nothing_running(data_dir):
    with start(data_dir, "--exit") as demo:
        output = demo.stdout.read()

    assert demo.returncode == 0, output
    assert "sent 31, refused 1, duplicates 1, stored 29, handled 27, retried 1, no handler 1, dead 1" in output
    assert len(re.findall(r"POST  (twilio|vapi|dialpad|agent)", output)) == 31
    assert left_behind(data_dir) == []


def test_a_second_run_keeps_the_data_and_what_it_prints_can_be_run(data_dir):
    with start(data_dir) as demo:
        output = read_until(demo, "Ctrl-C stops everything")

        curl = find(r"^  (curl .*)$", output)
        if shutil.which("curl"):
            tried = subprocess.run(curl, shell=True, capture_output=True, text=True, check=True)
            assert " 200 OK" in tried.stdout
        update = find(r"^  (\S*psql .*)$", output)
        assert subprocess.run(update, shell=True, capture_output=True, text=True, check=True).stdout == "UPDATE 1\n"
        dsn = find(r"^  export DATABASE_URL='?(.*?)'?$", output)
        dead = find(r"id = (\d+)", update)
        asked = [sys.executable, "-m", "processor", "dead", "list"]

        def dead_again():
            shown = subprocess.run(
                asked, env={**os.environ, "DATABASE_URL": dsn}, capture_output=True, text=True, check=False
            )
            return dead in [line.split("\t")[0] for line in shown.stdout.splitlines()]

        wait_for(dead_again, 20)
        assert int(dead) > 40, "a second run goes on after the first one's events"

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
    assert "event 1: handled" in output
