"""No dependency may be installed in a version with a known advisory that touches what we use.

Looked up on osv.dev and in the projects' release notes, 2026-11.
"""

import re
import tomllib
from pathlib import Path

import pytest

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FLOORS = {re.split(r"[\[><=]", one)[0]: one.partition(">=")[2] for one in PROJECT["dependencies"]}
ADVISORIES = [
    ("h11", "0.16.0", "CVE-2025-43859: malformed chunks are let through, a way to smuggle requests"),
    ("starlette", "0.40.0", "CVE-2024-47874"),
    ("starlette", "0.49.1", "GHSA-7f5h-v6xp-fcq8: Range headers of quadratic cost"),
    ("starlette", "1.0.1", "CVE-2026-48710: Host poisons request.url"),
    ("starlette", "1.3.0", "PYSEC-2026-248: a path moves the host"),
    ("starlette", "1.3.1", "CVE-2026-54283: limits of forms are passed over"),
    ("uvicorn", "0.11.7", "CVE-2020-7694, CVE-2020-7695: log lines injected, responses split"),
]
UNWANTED = {"python-multipart", "pyjwt", "httptools", "aiohttp", "requests"}  # with advisories, and no use of ours


def version(text):
    return tuple(map(int, text.split("."))) + (0,) * (3 - text.count(".") - 1)


def test_every_dependency_has_a_floor():
    assert {name for name, floor in FLOORS.items() if not re.fullmatch(r"\d+(\.\d+){1,2}", floor)} == set()


@pytest.mark.parametrize(("name", "mended", "advisory"), ADVISORIES, ids=lambda value: str(value).partition(":")[0])
def test_no_floor_admits_a_version_with_a_known_advisory(name, mended, advisory):
    assert version(FLOORS[name]) >= version(mended), advisory


def test_we_ask_for_nothing_that_we_do_not_use():
    assert UNWANTED & set(FLOORS) == set()
