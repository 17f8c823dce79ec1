"""docs/systems.md names, for each criterion, tests that there are."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "systems.md").read_text()


def claims():
    """Yield each criterion with the test files and functions that the page names for it."""
    file = ""
    for line in PAGE.splitlines():
        if (match := re.fullmatch(r"\| (.+?) \| (.+) \|", line)) and match[1] not in ("criterion", "---"):
            named = []
            for path, name in re.findall(r"(?:(tests/\w+\.py)(?:::)?)?(test_\w+)?", match[2]):
                file = path or file
                if name:
                    named.append((file, name))
            yield pytest.param(named, id=match[1])


def functions(path):
    return {node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("named", list(claims()))
def test_a_criterion_has_tests(named):
    assert named
    assert [(path, name) for path, name in named if name not in functions(path)] == []


def test_every_system_is_on_the_page():
    assert len(re.findall(r"^## ", PAGE, re.MULTILINE)) == 5
