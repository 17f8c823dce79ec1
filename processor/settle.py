"""What dead workers left behind, and what is overdue: settled now and then, by whoever comes by."""

import time
from dataclasses import dataclass

from processor.expect import raise_overdue
from processor.outcome import log_crashes
from processor.session import Session
from sql import load

CRASHES_MAX = 3  # times that an event may end its worker while it runs alone
OVERDUE_SECONDS = 1.0  # between two looks for what is overdue, at least
OVERDUE_SHARE = 20  # and so many times what the last one took: it reads all that a backlog keeps from being overdue


@dataclass
class Settling:
    """settled_at: when a worker last looked for others that died; overdue_at: when it will look for what is overdue."""

    settled_at: float = float("-inf")
    overdue_at: float = float("-inf")

    def due(self, seconds: float) -> bool:
        """Tell whether the last look is so many seconds ago."""
        return time.monotonic() - self.settled_at >= seconds

    def restart(self) -> None:
        """Have it be due."""
        self.settled_at = float("-inf")

    def settle(self, session: Session) -> bool:
        """Blame the event that ran alone in a worker that died, suspect those that ran together; raise what is overdue.

        Tells whether a worker had died: its events are free now. An idle worker does it every --interval seconds: soon
        enough for what is late anyway.
        """
        if session.control is None:
            return False
        began = self.settled_at = time.monotonic()
        settled = session.control.execute(load("reap_runs"), {"most": CRASHES_MAX}).fetchall()
        log_crashes(settled)
        if began >= self.overdue_at:
            raise_overdue(session.control)
            took = time.monotonic() - began
            self.overdue_at = began + max(OVERDUE_SECONDS, OVERDUE_SHARE * took)
        return bool(settled)
