"""Retention as a setting of `processor run`: a process of its own prunes at the start and every hour."""

import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import psycopg
from psycopg import Connection

from processor.failure import describe
from processor.prune import Ages, Prune
from sql.fork import fork, hear

log = logging.getLogger("processor")

EVERY = 3600.0  # seconds between two prunes of one processor
WITHIN = timedelta(minutes=50)  # and at least so long between two of all processors together


@dataclass
class Pruner:
    """Starts a prune when it is time, beside the workers; the supervisor calls tick().

    It may be killed at any moment: what is not committed is left to the next prune. pid: of the prune under way,
    0 without one. due: when the next may start (monotonic). ages: None: never.
    """

    ages: Ages | None
    connect: Callable[[], Connection]
    pid: int = 0
    due: float = 0.0

    def tick(self) -> None:
        """Start a prune if it is time and none is under way. Returns at once."""
        if self.pid and os.waitpid(self.pid, os.WNOHANG)[0]:
            self.pid = 0
        if self.ages is None or self.pid or time.monotonic() < self.due:
            return
        self.due = time.monotonic() + EVERY
        self.pid = fork(partial(self._prune, self.ages))

    def stop(self) -> None:
        """End the prune that is under way."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0

    def _prune(self, ages: Ages) -> int:
        """Be the process that prunes, and return its exit code."""
        try:
            hear(signal.SIG_DFL)
            prune = Prune(ages)
            with self.connect() as conn:
                prune.run(conn, WITHIN)
            if prune.removed.events or prune.removed.bodies:
                log.info("pruned events=%d bodies=%d", prune.removed.events, prune.removed.bodies)
        except psycopg.errors.InsufficientPrivilege as error:
            log.error("prune refused cause=%s; see `processor db sql --grants`", describe(error))
        except BaseException as error:  # noqa: BLE001 - whatever it is, it ends here and not in the supervisor's code
            log.warning("prune failed cause=%s", describe(error))
        return 0
