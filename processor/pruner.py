"""Retention as a setting of `processor run`: a process of its own prunes at the start and every hour."""

import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn

import psycopg
from psycopg import Connection

from processor.children import tie_to_us
from processor.failure import describe
from processor.prune import Ages, Prune

log = logging.getLogger("processor")

EVERY = 3600.0  # seconds between two prunes of one processor
WITHIN = timedelta(minutes=50)  # and at least so long between two of all processors together
SIGNALS = (signal.SIGTERM, signal.SIGINT)


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
        tie = tie_to_us(signal.SIGKILL)
        sys.stderr.flush()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until the child no longer has our handlers
        self.pid = os.fork()
        if self.pid == 0:
            self._prune(self.ages, tie)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def stop(self) -> None:
        """End the prune that is under way."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0

    def _prune(self, ages: Ages, tie: Callable[[], None] | None) -> NoReturn:
        """Be the process that prunes; never return from it."""
        try:
            os.setsid()
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            if tie:
                tie()
            prune = Prune(ages)
            with self.connect() as conn:
                prune.run(conn, WITHIN)
            if prune.removed.events or prune.removed.bodies:
                log.info("pruned events=%d bodies=%d", prune.removed.events, prune.removed.bodies)
        except psycopg.errors.InsufficientPrivilege as error:
            log.error("prune refused cause=%s; see `processor db sql --grants`", describe(error))
        except BaseException as error:  # noqa: BLE001 - whatever it is, it ends here and not in the supervisor's code
            log.warning("prune failed cause=%s", describe(error))
        finally:
            sys.stderr.flush()
            os._exit(0)
