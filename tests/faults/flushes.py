"""How long the disk by itself takes to have a page for good, beside whatever else uses it."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PAGE = b"\0" * 4096
EVERY = 0.05  # seconds


class Flushes:
    """slowest: in seconds, of all until now."""

    def __init__(self) -> None:
        self.slowest = 0.0


@contextmanager
def flushing(directory: Path) -> Iterator[Flushes]:
    """While the block runs, add a page to a file there and fsync it, as a spool's log does."""
    found, over = Flushes(), threading.Event()

    def flush() -> None:
        with (directory / "flushed").open("wb", buffering=0) as file:
            while not over.wait(EVERY):
                began = time.monotonic()
                file.write(PAGE)
                os.fsync(file.fileno())
                found.slowest = max(found.slowest, time.monotonic() - began)

    thread = threading.Thread(target=flush)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
