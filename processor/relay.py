"""Two sessions that take turns: while a batch is at work on one, the other commits the last and claims the next.

Full batches alone, so where there is a backlog. To everybody else it is one worker's claim beside another's commit, and
its handlers are another worker's: a batch sees what the one before it has committed by then, and waits for a row that
it has written.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import psycopg
from psycopg import Connection
from psycopg.pq import ExecStatus

from processor.attempt import Refused
from processor.batch import Batch
from processor.claim import Claimed, claimed
from processor.cursor import Cursor
from processor.outcome import Outcome
from processor.session import Session

LEAN = 10  # batches for which nothing is claimed ahead, where what waits is of subjects in hand


class Worker(Protocol):
    """Whose batches they are; see processor/loop.py."""

    cursor: Cursor

    @property
    def connect(self) -> Callable[[], Connection]:
        """Return what makes a connection."""

    def claim(self, session: Session, most: int) -> Claimed:
        """Begin a transaction, and claim events for it."""

    def asking(self, session: Session, most: int) -> bytes:
        """Return SQL that does that, but for start."""

    def start(self, session: Session) -> None:
        """Be told that a transaction has begun."""

    def tell(self, outcomes: list[Outcome]) -> None:
        """Be told what is committed."""


@dataclass
class Relay:
    """What a worker has under way beside the batch that it is at.

    spare: the session whose turn it isn't. under_way: the batch whose COMMIT was sent, and its answer not waited for.
    ahead: the next batch, claimed. It begins to run when its turn comes, so until then nobody is to blame for its
    events. lean: batches until that is tried again, where there was none.
    """

    worker: Worker
    spare: Session | None = None
    under_way: Batch | None = None
    ahead: Claimed | None = None
    lean: int = 0

    def next(self) -> Claimed | None:
        """Return what is claimed already for the batch that begins now."""
        ahead, self.ahead = self.ahead, None
        return ahead

    def end(self, batch: Batch, most: int, *, overlaps: bool) -> Session:
        """Commit a batch, and return the session for the next one: which has claimed it where it *overlaps*.

        most: events of the next. Raises Refused, or psycopg.Error, of this batch or the one before it, once both are
        answered.
        """
        self.lean = max(0, self.lean - 1)
        early = overlaps and batch.full and not self.lean
        before = self.under_way
        coming = before is not None and before.asked > 0
        if early and before is None:
            self._claim_ahead(batch.session, most)
        with batch.or_nothing():
            # The batch after the next. Not after long ones: who claims it keeps it from others until its turn.
            batch.asked = most if early and batch.quick and (coming or self.ahead) else 0
            batch.send_end(self.worker.asking(batch.session, most) if batch.asked else b"")
        # Not waited for before that: it may wait, too, for what this batch's handlers have locked.
        self.under_way = batch
        self._both_landed(before)
        if early and before is not None and not coming:
            self._claim_ahead(batch.session, most)
        if self.ahead and self.spare:
            session, self.spare = self.spare, batch.session
            return session
        self.land()
        return batch.session

    def land(self) -> None:
        """Wait until the batch that is under way is committed. Raises as Batch.answered."""
        batch, self.under_way = self.under_way, None
        self._landed(batch)

    def drop(self) -> None:
        """Close the spare session; what was claimed ahead is free again."""
        self.ahead = None
        if self.spare is not None:
            self.spare.conn.close()
            self.spare = None

    def _both_landed(self, before: Batch | None) -> None:
        """Wait until the batch before is committed; where it isn't, for the one under way as well."""
        try:
            self._landed(before)
        except Refused as error:
            try:
                self.land()
            except Refused as other:  # else the elder would be run beside another each time, and never be blamed
                error.join(other)
            raise
        except psycopg.Error:
            self.land()
            raise

    def _landed(self, batch: Batch | None) -> None:
        """Wait until it is committed, and for the claim that was sent with it."""
        if batch is None:
            return
        more = batch.answered()
        self.worker.tell(batch.outcomes)
        if more and more[-1].status == ExecStatus.TUPLES_OK:
            self.worker.start(batch.session)
            self._claimed(batch.session, claimed(batch.session.conn, more[-1], batch.asked, self.worker.cursor))
        elif more:  # the next claim meets it again, where it can be told
            batch.session.roll_back()

    def _claim_ahead(self, session: Session, most: int) -> None:
        try:
            self.spare = self.spare or session.second(self.worker.connect)
            self._claimed(self.spare, self.worker.claim(self.spare, most))
        except psycopg.Error:  # as above
            self.drop()

    def _claimed(self, session: Session, ahead: Claimed) -> None:
        if ahead.ids:
            self.ahead = ahead
        else:
            session.roll_back()
            self.lean = LEAN
