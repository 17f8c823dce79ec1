"""What the disk takes by itself to have a commit's bytes for good: no server answers sooner than that."""

import os
import time
from pathlib import Path

from benchmarks import load
from benchmarks.rounds import Measures

BLOCK = b"\0" * 8192  # bytes: a page of WAL
FILE = 16 * 2**20  # bytes: a file of WAL


def flushes(directory: Path, rate: float, seconds: float) -> Measures:
    """Write a page and flush it, *rate* times a second, over a file that is there already; each timed from when due."""
    path, times = directory / "disk", []
    with path.open("wb") as file:
        file.write(b"\0" * FILE)
        file.flush()
        os.fsync(file.fileno())
        began = time.perf_counter()
        for number in range(round(rate * seconds)):
            due = began + number / rate
            time.sleep(max(0.0, due - time.perf_counter()))
            os.pwrite(file.fileno(), BLOCK, number * len(BLOCK) % FILE)
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - due)
    path.unlink()
    found = load.answered(times, seconds)
    return {"answers": found.count, "p50": found.p50, "p99": found.p99, "max": found.max}
