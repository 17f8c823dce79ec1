"""A receiver over HTTP in this process, and what a provider sees of it while the database is away."""

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.http_receiver import Receiver, settings
from tests.processes import wait_for
from tests.receiver_fixtures import BASE_URL, SECRETS, SOURCES
from tests.signing import reminder

IN_TIME = 4.0  # seconds; promised are 2.5, on a machine with something to spare


@contextmanager
def inbox(directory: Path, dsn: str, spool: str = "off", **options: Any) -> Iterator[Receiver]:
    """Run a receiver whose database is *dsn*; without a spool, its answers tell what the database has."""
    receiver = Receiver(settings(directory, dsn, SOURCES, BASE_URL=BASE_URL, SPOOL_DIR=spool, **SECRETS), **options)
    try:
        yield receiver
    finally:
        receiver.stop()


def send(receiver: Receiver, numbers: Iterable[int]) -> list[int]:
    """Send these reminders at once, each on a connection of its own; return the statuses, in that order."""
    numbers = list(numbers)
    with ThreadPoolExecutor(len(numbers)) as threads:
        return [reply.status for reply in threads.map(lambda number: reminder(number).to(receiver), numbers)]


def send_timed(receiver: Receiver, numbers: Iterable[int]) -> tuple[set[int], float]:
    """Send these reminders at once; return the statuses that occur, and the seconds until the last answer."""
    began = time.monotonic()
    return set(send(receiver, numbers)), time.monotonic() - began


def seconds(call: Callable[[], Any]) -> float:
    """Return how long it took."""
    began = time.monotonic()
    call()
    return time.monotonic() - began


def until_stored(receiver: Receiver, number: int) -> float:
    """Send one reminder again and again until it is answered 200; return the seconds that took."""
    return seconds(lambda: wait_for(lambda: reminder(number).to(receiver).status == 200))
