"""What a sender did and saw, as JSON Lines: the half of the truth that no fault of the inbox can touch.

One line an attempt's beginning, one its end: ``invoke``, then ``ok`` (2xx: acknowledged), ``fail`` (another status, or
no connection: nothing was promised) or ``info`` (broken off, or no answer in time: nobody knows). As in Jepsen.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal, Self

What = Literal["invoke", "ok", "fail", "info"]


@dataclass(frozen=True, slots=True)
class Line:
    """t: unix seconds; key: ``source/event_id``; sha: hex digest of the body; status: 0 where none came."""

    t: float
    key: str
    sha: str
    what: What
    status: int = 0


class History:
    """A history that is being written, each line on its way to the file as it is noted. For one thread."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("a", encoding="utf-8", buffering=1)

    def note(self, key: str, body: bytes, what: What, status: int = 0) -> None:
        line = Line(time.time(), key, sha256(body).hexdigest(), what, status)
        self.file.write(json.dumps(asdict(line)) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


def read(path: Path) -> Iterator[Line]:
    """Yield the lines of a file; one that was being written when its sender died is none."""
    with path.open(encoding="utf-8") as file:
        for text in file:
            if text.endswith("\n"):
                yield Line(**json.loads(text))
