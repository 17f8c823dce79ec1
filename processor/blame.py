"""Batches that were refused: whose fault it was, written elsewhere, since nothing of them is committed."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from psycopg import Connection

from processor.attempt import CONFLICTS_MAX, Refused, failed
from processor.failure import describe
from processor.outcome import Journal
from processor.record import record
from processor.registry import handlers_of
from sql import load

log = logging.getLogger("processor")


@dataclass
class Blame:
    """A worker's. connect() returns a connection; conflicts: batches in a row that lost to another's transaction."""

    connect: Callable[[], Connection]
    journal: Journal
    stopping: threading.Event
    conflicts: int = 0

    def lay(self, refused: Refused) -> None:
        """Count the attempt of the one event that can be to blame; of several, have each run alone next."""
        if self.lost_to_another(refused):
            return
        ids = [event.id for event in refused.events]
        log.error("batch refused events=%d first=%d cause=%s", len(ids), ids[0], str(refused).partition(":")[0])
        if len(ids) > 1:
            self.elsewhere(lambda conn: conn.execute(load("suspect_events"), {"ids": ids}))
        else:
            event = refused.events[0]
            outcome = failed(event, tuple(handlers_of(event)[:1]), refused.__cause__ or refused, None)
            if self.elsewhere(lambda conn: record(conn, [outcome])):
                self.journal.write(outcome)

    def lost_to_another(self, refused: Refused) -> bool:
        """Tell whether a batch was refused in favour of another transaction, and is to be run again at once."""
        if not refused.conflict or self.conflicts >= CONFLICTS_MAX:
            return False
        self.conflicts += 1
        log.warning("batch lost to another transaction events=%d first=%d", len(refused.events), refused.events[0].id)
        return True

    def elsewhere(self, change: Callable[[Connection], object]) -> bool:
        """Write on another connection what the batch's own could not; return whether the database took it."""
        try:
            with self.connect() as conn, conn.transaction():
                change(conn)
        except psycopg.Error as error:
            log.warning("attempt not counted cause=%s", describe(error))
            self.stopping.wait(1.0)
            return False
        return True
