"""The database away in the middle of real traffic, in short; `python -m tests.faults.outage` is the same for longer."""

from dataclasses import replace

import pytest

from tests.conftest import reachable_directory
from tests.faults.outage import Outage, on_a_sound_disk, run
from tests.faults.volume import NoVolume

SHORT = Outage(seconds=6.0, rate=60.0, away=2.5)


def report(**outage):
    """Run it, and return what came of it."""
    with reachable_directory() as directory:
        try:
            return run(replace(SHORT, **outage), directory)
        except NoVolume as reason:
            pytest.skip(f"no disk of our own to fill: {reason}")


@pytest.mark.parametrize("fault", ["stop", "kill", "freeze", "disk"])
def test_while_the_database_is_away_every_delivery_is_acknowledged_and_none_is_lost(fault, seed):
    found = on_a_sound_disk(lambda: report(fault=fault, seed=seed))

    assert found.passed, str(found)


def test_without_a_spool_nothing_acknowledged_is_lost_and_the_providers_lose_the_rest(seed):
    found = report(fault="stop", seed=seed, spool=False)

    assert found.verdict.passed, str(found)
    assert found.sender.failed
    assert found.verdict.given_up
