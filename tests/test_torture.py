"""benchmarks/torture.py in small: kills, poison, failing handlers, replays and a restart of PostgreSQL at once."""

import random

import pytest

from benchmarks import torture
from benchmarks.torture_plan import Plan
from processor import postgres, postgres_binaries
from tests.conftest import reachable_directory

try:
    postgres_binaries.package()
except postgres.Unavailable as reason:
    pytestmark = pytest.mark.skip(reason=str(reason))


def test_every_event_of_a_tortured_processor_is_accounted_for():
    plan = Plan(events=1000, kills=10, restarts=1, seed=random.randrange(2**32), seconds=60)

    with reachable_directory() as directory:
        report = torture.run(plan, directory)
        log = (directory / "processors.log").read_text()

    assert report.passed, f"{plan}\n{report}\n{log[-4000:]}"
