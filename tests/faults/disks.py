"""Volumes for a test, which is skipped with the reason where none can be made."""

from contextlib import ExitStack

import pytest

from tests.faults.volume import SIZE, NoVolume, volume


@pytest.fixture
def disk():
    """A function that makes a volume of so many bytes."""
    with ExitStack() as stack:

        def made(size=SIZE):
            try:
                return stack.enter_context(volume(size))
            except NoVolume as reason:
                pytest.skip(f"no volume: {reason}")

        yield made
