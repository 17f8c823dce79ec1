"""The jobs of drain.py and latency.py as every queue's Python worker has them: what one carries, writes and marks.

benchmarks/peers/jobs.js is the same for Node's.
"""

import os
import time
from pathlib import Path

KINDS = ("nothing", "upsert")
PAD = "x" * 600
DRAINED = "CREATE TABLE drained (subject text PRIMARY KEY, event bigint NOT NULL, times bigint NOT NULL)"
# times: how many jobs wrote the row, so that their sum tells how many did at all.
UPSERT = """
    INSERT INTO drained (subject, event, times) VALUES (%s, %s, 1)
    ON CONFLICT (subject) DO UPDATE SET event = excluded.event, times = drained.times + 1
"""
EFFECTS = "CREATE TABLE effects (event_id text PRIMARY KEY)"
# In one statement, so that it is one round trip for everybody.
EFFECT = """
    WITH effect AS (INSERT INTO effects (event_id) VALUES (%s) RETURNING event_id)
    SELECT pg_notify('effects', event_id) FROM effect
"""


def numbered(statement: str) -> str:
    """Return a statement with $1, $2 ... as asyncpg has them."""
    parts = statement.split("%s")
    return "".join(f"{part}${place}" for place, part in enumerate(parts[:-1], 1)) + parts[-1]


def carried(number: int) -> dict[str, str | int]:
    """Return what a job carries: five jobs a subject, others between them; as claim_cost.add stores events."""
    return {"subject": f"drain/{number // 50 * 10 + number % 10}", "event": number, "pad": PAD}


class Marks:
    """Lines in a file: when this process was called first, and when so often that it is the last (monotonic ns)."""

    def __init__(self, path: str, last: int) -> None:
        self.path = path
        self.last = last
        self.number = 0

    def called(self, number: int = 1) -> None:
        """Note that so many jobs begin."""
        if not self.number:
            self._write("first")
        self.number += number
        if self.number == self.last:
            self._write("last")

    def _write(self, word: str) -> None:
        if self.path:
            with Path(self.path).open("a", encoding="ascii") as file:
                file.write(f"{word} {time.monotonic_ns()}\n")


marks = Marks(os.environ.get("MARKS", ""), int(os.environ.get("MARKS_LAST", "0")))
