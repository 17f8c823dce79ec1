"""What a command imports before it does anything: an operator waits for it at every call."""

import os
import subprocess
import sys

import click
import pytest

from processor import cli as processor
from receiver import cli as receiver
from tests.processes import SECRET

AT_ITS_END = """
import sys
from {program}.cli import cli
try:
    cli({words!r}, prog_name={program!r})
finally:
    print(*sorted(sys.modules), file=sys.stderr)
"""
# What takes longest to import, and what only a running receiver or processor needs.
HEAVY = {"pydantic", "starlette", "twilio", "handlers", "receiver", "psycopg_pool", "uvicorn", "processor.loop"}


def imported(dsn, program, *words):
    """Run a command, and return what it has imported at its end: packages of others, and modules of ours."""
    done = subprocess.run(
        [sys.executable, "-c", AT_ITS_END.format(program=program, words=words)], capture_output=True, text=True,
        env={**os.environ, "DATABASE_URL": dsn, "WEBHOOK_SECRET": SECRET}, check=False, timeout=60,
    )  # fmt: skip
    *_, modules = done.stderr.splitlines()
    assert "click" in modules.split(), done.stderr
    return {
        name if name.startswith(("receiver.", "processor.")) else name.partition(".")[0] for name in modules.split()
    }


@pytest.mark.parametrize(
    "words",
    [("status",), ("--help",), ("events", "list"), ("dead", "list"), ("db", "status"), ("replay", "--help"),
     ("pause", "--help"), ("completion", "bash")],
    ids=" ".join,
)  # fmt: skip
def test_a_processors_command_imports_neither_handlers_nor_the_loop_nor_what_they_need(dsn, words):
    assert imported(dsn, "processor", *words) & HEAVY == set()


@pytest.mark.parametrize("words", [("--help",), ("refusals",), ("spool", "--help")], ids=" ".join)
def test_a_receivers_command_imports_no_server_no_provider_and_no_validator(dsn, words):
    heavy = (HEAVY - {"receiver"}) | {"receiver.app", "receiver.settings", "receiver.providers", "receiver.http"}

    assert imported(dsn, "receiver", *words) & heavy == set()


@pytest.mark.parametrize(
    ("program", "name"), [(program, name) for program in (processor, receiver) for name in program.COMMANDS]
)
def test_the_list_of_commands_says_what_the_help_of_each_begins_with(program, name):
    command = program.cli.get_command(click.Context(program.cli), name)

    assert command is not None
    assert (command.help or "").startswith(program.COMMANDS[name][1].removesuffix("."))
