"""docs/reliability.md has a row for every fault and every bad input, with tests that are there or a reason."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "reliability.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| ([A-Z]-?\d\d) \|.*\| ([^|]*) \|$", PAGE, re.MULTILINE)
COUNTS = {"F": 55, "A": 28, "B": 15, "C": 18, "D": 7, "E": 10, "F-": 17, "G": 5, "J": 6, "K": 5, "L": 5}
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")


def functions(path):
    """Return the names of a file's tests: pytest collects what begins with test_."""
    tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_id_stands_there_once():
    ids = [f"{letter}{number:02}" for letter, count in COUNTS.items() for number in range(1, count + 1)]

    assert sorted(one for one, _ in ROWS) == sorted(ids)


@pytest.mark.parametrize("name", sorted(set(NAMED.findall(PAGE))), ids="::".join)
def test_every_test_that_it_names_is_there(name):
    path, function = name

    assert function in functions(path)


def test_a_row_names_nothing_but_tests_or_gives_a_reason():
    strange = [one for one, told in ROWS if "`" in NAMED.sub("", told) or (not NAMED.search(told) and len(told) < 10)]

    assert strange == []
