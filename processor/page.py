"""What a worker is at, in memory that it shares with its supervisor: no call to the system an event."""

import mmap
import struct
import time
from dataclasses import dataclass

from processor.event import Event

# event (0: none), run, server process, lease (0: none), attempt, handler's place, seconds allowed, deadline (monotonic)
AT_WORK = struct.Struct("qqqqqqdd")
LEASE = struct.Struct("qd")  # behind it: the number of a worker's leases, and until when it has shown that it lives
BEFORE = struct.Struct("q")  # and behind that: the run before this one, whose commit may still be under way
SILENT = 20.0  # seconds without a word from a worker that leases events, after which it is taken for stuck


InHand = tuple[int, int, int]  # the run's number, the server's process, the lease that its events are under (0: none)


class Page:
    """What a worker is at, written by it and read by its supervisor."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, AT_WORK.size + LEASE.size + BEFORE.size)

    def run(self, run_id: int) -> None:
        """Say which batch is in hand; no handler of it is running."""
        AT_WORK.pack_into(self.memory, 0, 0, run_id, 0, 0, 0, 0, 0.0, 0.0)

    def next(self, run_id: int) -> None:
        """Say that a batch comes to hand; no handler of the one before it is running any more."""
        BEFORE.pack_into(self.memory, AT_WORK.size + LEASE.size, self.read().run_id)
        self.run(run_id)

    def before(self) -> int:
        """Return the run before this one, 0 where there was none: if it is not over, its commit is under way."""
        (run_id,) = BEFORE.unpack_from(self.memory, AT_WORK.size + LEASE.size)
        return int(run_id)

    def begin(self, events: list[Event], in_hand: InHand, handler: int, seconds: float) -> None:
        """Say that a handler, the one at this place in HANDLERS, starts now, and how long it may take.

        Of several events the first is named, its attempt as 0: none of them alone is to blame.
        """
        event, attempt = events[0], events[0].attempt if len(events) == 1 else 0
        until = time.monotonic() + seconds
        run_id, backend, lease = in_hand
        AT_WORK.pack_into(self.memory, 0, event.id, run_id, backend, lease, attempt, handler, seconds, until)

    def hold(self, lease: int) -> None:
        """Say under which number this worker leases events, and that it lives."""
        LEASE.pack_into(self.memory, AT_WORK.size, lease, time.monotonic() + SILENT)

    def held(self) -> int:
        """Return that number; 0: it leases none."""
        lease, _ = LEASE.unpack_from(self.memory, AT_WORK.size)
        return int(lease)

    def stuck(self) -> bool:
        """Tell whether a worker that leases events is silent, though at no handler that it told of."""
        lease, until = LEASE.unpack_from(self.memory, AT_WORK.size)
        return lease != 0 and self.read().event == 0 and time.monotonic() > until

    def read(self) -> "AtWork":
        """Return what was said last."""
        return AtWork(*AT_WORK.unpack_from(self.memory))


@dataclass(frozen=True)
class AtWork:
    """An attempt under way; event is 0 between two. attempt: 0 where a batch handler has several events."""

    event: int
    run_id: int
    backend: int
    lease: int
    attempt: int
    handler: int
    seconds: float
    deadline: float

    @property
    def late(self) -> bool:
        """Tell whether it has had its time."""
        return self.event != 0 and time.monotonic() > self.deadline
