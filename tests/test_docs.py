"""What the pages in docs/ tell their reader to type works as it stands there."""

import re
import shlex
from itertools import takewhile
from pathlib import Path

import click
import pytest

import sql as statements
from processor.cli import cli as processor
from receiver.cli import cli as receiver
from receiver.settings import sources_from

PAGES = sorted((Path(__file__).parents[1] / "docs").glob("*.md"))
COMMANDS = {"processor": processor, "receiver": receiver}


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def found(language):
    return [
        pytest.param(block, id=f"{page.stem}-{number}")
        for page in PAGES
        for number, block in enumerate(blocks(page, language))
    ]


@pytest.mark.parametrize("block", found("sql"))
def test_its_sql_runs(db, block):
    with db.transaction(force_rollback=True):
        db.execute(statements.load("grant_roles"))  # a block may be about the roles
        db.execute(block.encode())


@pytest.mark.parametrize("block", found("python"))
def test_its_python_compiles(block):
    compile(block, "docs", "exec")


@pytest.mark.parametrize("block", found("toml"))
def test_its_sources_file_is_one(block, tmp_path):
    (tmp_path / "secret").write_text("a-secret-in-a-file")
    (tmp_path / "sources.toml").write_text(re.sub(r'"file:[^"]+"', f'"file:{tmp_path / "secret"}"', block))
    names = dict.fromkeys(re.findall(r'"env:(\w+)"', block), "a-secret-0123456789-0123456789-012")

    assert sources_from({"WEBHOOK_SOURCES": str(tmp_path / "sources.toml"), "BASE_URL": "https://hooks.test", **names})


def ours(block):
    """Yield the words of each line that calls one of our commands."""
    for line in block.replace("\\\n", " ").splitlines():
        words = list(takewhile(lambda word: word != "|", shlex.split(line, comments=True)))
        while words and re.fullmatch(r"[A-Z_]+=.*|export", words[0]):
            words.pop(0)
        if words and words[0] in COMMANDS:
            yield words


@pytest.mark.parametrize("block", found("sh"))
def test_its_commands_are_commands_with_these_options(block):
    for name, *rest in ours(block):
        command: click.Command | None = COMMANDS[name]
        context = click.Context(COMMANDS[name], info_name=name)
        while isinstance(command, click.Group):
            group = command
            word, command, rest[:] = group.resolve_command(context, rest)
            assert command
            context = click.Context(command, info_name=word, parent=context)
        assert command
        command.parse_args(context, rest)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_its_links_lead_somewhere(page):
    for target in re.findall(r"\]\(((?!https?:|#)[^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target
