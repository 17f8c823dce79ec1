"""How far a worker's claims have looked."""

import time
from dataclasses import dataclass, field

START = "-infinity"
FULL_SCAN = 1.0  # seconds after which a claim begins at the oldest event again
FULL_SCAN_MOST = 5.0  # and at most, where that takes long: past a long paused backlog, say


@dataclass
class Cursor:
    """Where the next claim begins: past what is done, though an old snapshot keeps that from being vacuumed.

    What was committed late, or freed by a dead worker, lies behind it: it restarts now and then.
    whole: whether the claims since the oldest event have left nothing out. took: seconds, the last time it looked at
    everything; under_way: it is at that, and has not come to the end. asked: a claim has begun since the last restart.
    """

    after_at: str = START
    after_id: int = 0
    whole: bool = True
    started_at: float = field(default_factory=time.monotonic)
    took: float = 0.0
    under_way: bool = False
    asked: bool = False

    def restart(self) -> None:
        """Look at everything next time."""
        self.after_at, self.after_id, self.whole, self.asked = START, 0, True, False

    def begin(self) -> None:
        """Prepare a claim: from the oldest event on if that is due again, and the last time came to its end."""
        due = min(FULL_SCAN_MOST, max(FULL_SCAN, 20 * self.took))
        if not self.under_way and time.monotonic() - self.started_at >= due:
            self.restart()
        if self.after_at == START:
            self.started_at = time.monotonic()
        self.asked = True

    def end(self, after_at: str, after_id: int, *, more: bool) -> bool:
        """Go on from where a claim ended, *more*: before it had looked to the end; return whether all was looked at."""
        if not self.asked:  # it began before the restart, behind a commit, and may have passed by what that is for
            return False
        if not more and (self.under_way or self.after_at == START):
            self.took = time.monotonic() - self.started_at
        self.under_way = more
        all_seen = self.whole and not more
        self.after_at, self.after_id, self.whole = after_at, after_id, self.whole and more
        return all_seen
