"""What the README, and the pages it was too long for, tell their reader to type works as it stands there."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import psycopg
import pytest

from receiver.settings import DEFAULTS, sources_from
from tests.inbox import add
from tests.processes import free_port, receiver

ROOT = Path(__file__).parents[1]
README, SOURCES, OPERATE = ((ROOT / name).read_text() for name in ("README.md", "docs/sources.md", "docs/operate.md"))
DEMO_SECRET = "demo-agent-secret-0123456789abcde"


def blocks(language, page=README):
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def test_its_handler_runs(db, dsn, tmp_path):
    (tmp_path / "mine.py").write_text(blocks("python")[0])
    add(db, "call.completed", subject="reminder/rem_1", provider="agent")
    add(db, "call.completed", subject="reminder/rem_unknown", provider="agent")

    subprocess.run(
        [sys.executable, "-m", "processor", "run", "--once", "--handlers", "mine"],
        env={**os.environ, "DATABASE_URL": dsn}, cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip

    assert db.execute("SELECT call_id, state FROM calls").fetchall() == [("rem_1", "completed")]
    assert db.execute("SELECT reason FROM dead_letters").fetchall() == [("Discard: no such reminder",)]


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl here")
def test_its_curl_is_signed_as_it_says(fresh_dsn, monkeypatch):
    monkeypatch.setattr("tests.processes.SECRET", DEMO_SECRET)
    port = free_port()
    (command,) = [block for block in blocks("sh") if block.startswith("curl")]
    with receiver(fresh_dsn, port):
        done = subprocess.run(
            shlex.split(command.replace(":8000", f":{port}").replace("\\\n", "")),
            capture_output=True,
            text=True,
            check=True,
        )

    assert done.stdout.startswith("HTTP/1.1 200 OK")
    with psycopg.connect(fresh_dsn) as conn:
        assert conn.execute("SELECT event_type FROM webhook_events").fetchall() == [("call.completed",)]


def test_its_updates_replay_and_skip(db):
    add(db, "call.completed", outcome="handled", processed_at="2026-01-01")
    db.execute("UPDATE webhook_events SET id = 17")
    (first,), (second, *_) = blocks("sql"), blocks("sql", OPERATE)

    db.execute(first.encode())
    assert db.execute("SELECT replays, outcome FROM webhook_events").fetchall() == [(1, None)]

    db.execute(second.encode())
    assert db.execute("SELECT outcome FROM webhook_events").fetchall() == [("skipped",)]


def test_its_sources_file_is_one(tmp_path):
    toml, *_ = blocks("toml", SOURCES)
    (tmp_path / "sources.toml").write_text(toml.replace("/run/secrets/acme-old-token", str(tmp_path / "token")))
    (tmp_path / "token").write_text("old\n")
    environ = {"WEBHOOK_SOURCES": str(tmp_path / "sources.toml"), "ACME_TOKEN": "new", "VAPI_EU_KEY": "k"}

    assert [source.name for source in sources_from(environ)] == ["twilio-acme", "vapi-eu", "dialpad-lab"]


def test_its_table_of_sources_is_the_defaults():
    table = re.findall(r"^\| ([a-z-]+) \| ([a-z]+) \| (/[^|]+) \|", SOURCES, re.MULTILINE)

    told = [(name, provider, re.findall(r"/[\w/-]+", paths)) for name, provider, paths in table]

    assert told == [(name, provider, paths) for name, provider, paths, _, _ in DEFAULTS]


def test_its_commands_are_commands():
    from processor.cli import cli  # noqa: PLC0415 - only here

    for words in re.findall(
        r"^processor (\w+)(?: (\w+))?", "\n".join(blocks("sh") + blocks("sh", OPERATE)), re.MULTILINE
    ):
        command = cli.get_command(click.Context(cli), words[0])
        assert command, words[0]
        if hasattr(command, "commands"):
            assert words[1] in command.commands
