"""Power cuts, one each: tests/faults/power_cut.py does many, with figures."""

import random
from contextlib import ExitStack

import pytest

from tests.faults.power_cut import MOMENTS, machine
from tests.faults.volume import NoVolume

SECONDS = 5.0  # of load, at most


@pytest.fixture
def powered():
    """A function that starts a receiver and a database with a disk each; without: whose fsync."""
    with ExitStack() as stack:

        def made(without=None):
            try:
                return stack.enter_context(machine(without))
            except NoVolume as reason:
                pytest.skip(f"no volume: {reason}")

        yield made


@pytest.mark.parametrize("moment", MOMENTS)
def test_what_was_acknowledged_before_a_power_cut_is_there_after_it(powered, moment, seed):
    cut = powered().lose_power(moment, SECONDS, random.Random(seed))

    assert cut.acknowledged > 0
    assert cut.refused == 0
    assert cut.lost == 0


@pytest.mark.parametrize(("without", "moment"), [("database", "storing"), ("spool", "spooling")])
def test_these_cuts_would_show_a_disk_that_is_not_waited_for(powered, without, moment, seed):
    cut = powered(without).lose_power(moment, SECONDS, random.Random(seed))

    assert cut.lost > 0
