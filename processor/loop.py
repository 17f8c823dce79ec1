"""The claim, the handlers, the commit: the loop that makes attempts.

One transaction a batch: it locks the events' rows and subjects, holds a savepoint for each event or a few, and ends by
setting processed_at. The locks are the claim and the commit is the completion, so a handler's writes and processed_at
can't part, and a worker that dies leaves its events free at once. What it leaves as well is a row that says what
it was about to run; whoever finds it settles whom to blame.
"""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import psycopg
from psycopg import Connection

from processor.attempt import Refused
from processor.batch import Batch
from processor.blame import Blame
from processor.claim import PREFIX, Claimed, Scope, answered, ask, asking, claim
from processor.cursor import FULL_SCAN, Cursor
from processor.event import Event
from processor.failure import describe
from processor.outcome import Journal, Outcome, Totals, log_crashes
from processor.page import Page
from processor.registry import longest
from processor.relay import Relay
from processor.session import Session, settings
from processor.settle import CRASHES_MAX, Settling
from processor.turns import Turns
from processor.wakeup import Wakeup
from processor.watched import Watched
from sql import database, load

log = logging.getLogger("processor")

BATCH_SIZE = 50  # events a commit; past 64 writing savepoints PostgreSQL's subtransaction cache overflows
LIGHT_SIZE = 100  # after a batch that was quick and took few savepoints: what a batch costs is most of what they cost
LIGHT = 20  # savepoints
BATCH_SECONDS = 1.0  # of handler time, after which a batch commits and leaves the rest to the next
TIMEOUT = 60.0  # seconds that a handler may take, unless it or the command says otherwise
GRACE = 10.0  # seconds past their timeouts, after which the server ends an attempt whose supervisor is gone as well
BLOCKED_SECONDS = 0.25  # between two looks at events whose turn it isn't: another worker's subject comes free untold
SETTLE_SECONDS = 0.5  # between two looks for workers that died, at least; where there is no time for one
SETTLE_LATEST = 2.0  # between two waits, at most
APART = 100  # events that share no savepoint, after one has failed
QUICK = 0.1  # seconds of handler time: after such a batch the one after the next is claimed while the next one runs
# The claim's later statements must see what was committed since its first.
BEGIN = b"BEGIN ISOLATION LEVEL READ COMMITTED; "


@dataclass
class Processor:
    """A worker: one batch at a time, until told to stop.

    connect() returns a new connection in autocommit mode; it is called again after a connection is lost.
    lost: whether the database did not answer the last time.
    batch_size: events a batch, at most; light_size: where that is more, and the last batch was light.
    run_id: the batch in hand, or the last one; runs: the last ones' numbers.
    apart: events that share no savepoint yet.
    page: where to say which event is at work, for a supervisor that ends what takes too long.
    listen: whether to let the receiver end a wait, before the interval is over.
    overlap: whether a batch may begin while the last one's commit is under way. totals: what became of all that ran.
    """

    connect: Callable[[], Connection]
    batch_size: int = BATCH_SIZE
    light_size: int = 0
    scope: Scope = field(default_factory=Scope)
    stopping: threading.Event = field(default_factory=threading.Event)
    journal: Journal = field(default_factory=Journal)
    session: Session | None = None
    cursor: Cursor = field(default_factory=Cursor)
    lost: bool = False
    run_id: int = 0
    timeout: float = TIMEOUT
    page: Page | None = None
    listen: bool = True
    overlap: bool = True
    settling: Settling = field(default_factory=Settling)
    runs: deque[int] = field(default_factory=lambda: deque(maxlen=2))
    totals: Totals = field(default_factory=Totals)
    apart: int = 0
    light: bool = False

    def __post_init__(self) -> None:
        """Know how to wait."""
        self.wakeup = Wakeup(listen=self.listen)
        self.relay = Relay(self)
        self.blame = Blame(self.connect, self.journal, self.stopping)

    @cached_property
    def _settings(self) -> bytes:
        # A supervisor ends who takes longer; without one nobody does. Before the first batch the handlers are loaded
        # and the page is given. What is claimed ahead waits for a whole batch, the last of whose events may begin late.
        return settings(longest(self.timeout) + BATCH_SECONDS + GRACE if self.page else 0)

    def run(self, interval: float, *, max_events: int | None = None, once: bool = False) -> Totals:
        """Process what is due, wait to be woken or *interval* seconds when nothing is, and so on until stopping.

        Ends after *max_events* attempts, or with *once* when nothing is due any more. While the database is
        away, read-only or not migrated yet, it is tried again every second, and said once; with *once* that is
        raised, and always what the role has no right to.
        """
        totals = self.totals = Totals()
        self.overlap = self.overlap and max_events is None
        try:
            while not self._over(spent=totals.claimed == max_events):
                most = self.size if max_events is None else min(self.size, max_events - totals.claimed)
                batch = self._step(most, once=once)
                if batch is None:
                    continue
                if batch.idle and once:
                    if batch.all_seen:
                        break
                    self.cursor.restart()
                elif batch.idle:
                    # Earlier, never later than asked: workers that started together part.
                    nap = interval * random.uniform(0.8, 1.0)  # noqa: S311 - not for secrecy
                    nap = nap if batch.all_seen else min(nap, FULL_SCAN)
                    self._wait(min(nap, BLOCKED_SECONDS) if batch.blocked else nap)
                elif batch.spent and self.wakeup.listening and not once and not self.relay.ahead:
                    # Of what comes next we are told. What this claim passed by waits as what is blocked does.
                    self._wait(BLOCKED_SECONDS)
        finally:
            self._close()
        return totals

    @cached_property
    def watched(self) -> Watched:
        """The attempts that a supervisor sees. Before the first batch the page is given."""
        return Watched(self.page, self.timeout)

    @property
    def size(self) -> int:
        """Events of the next batch, at most."""
        return max(self.batch_size, self.light_size) if self.light else self.batch_size

    def _over(self, *, spent: bool) -> bool:
        """Tell whether to return; *spent*: as many attempts were made as were asked for."""
        return spent or self.stopping.is_set()

    def _step(self, most: int, *, once: bool) -> Batch | None:
        """Run one batch and return it; None when it was refused, or the database is away."""
        try:
            batch = self.batch(self._open(), most)
        except Refused as error:
            self._close()
            self.lay_blame(error)
            return None
        except psycopg.Error as error:
            self._close()
            if once or isinstance(error, psycopg.errors.InsufficientPrivilege):
                raise
            if not self.lost:
                log.error("database unavailable cause=%s%s", describe(error), database.todo(error))
            self.lost = True
            self.stopping.wait(1.0)
            return None
        self.blame.conflicts = 0
        if self.lost:
            log.warning("database recovered")
            self.lost = False
        return batch

    def _wait(self, seconds: float) -> None:
        self.relay.drop()  # who has nothing to do holds no more connections than it needs
        if self.session is None:
            return
        try:
            if self.settling.due(SETTLE_SECONDS) and self.settling.settle(self.session):
                return
        except psycopg.Error:  # said when it is connected to again
            self._close()
            return
        if not self.wakeup.wait(self.session, seconds, self.stopping):
            self._close()

    def _open(self) -> Session:
        """Return the session, a new one where the last was lost, after settling what others left behind."""
        if self.session is None:
            self.session = Session.open(self.connect)
            self.cursor.restart()
            # It is the database that went away under our last runs, not we: no event of theirs is to blame.
            for run_id in self.runs:
                self.session.give_up(run_id)
            self.settling.restart()
        # Who was told of an event attends to that first, and settles before it waits again.
        if not self.relay.ahead and self.settling.due(SETTLE_LATEST if self.wakeup.told else SETTLE_SECONDS):
            self.settling.settle(self.session)
        return self.session

    def _close(self) -> None:
        """Close the connections, once what was sent on one is answered; what was claimed ahead is free again."""
        if self.session is not None:
            self.session.conn.close()
            try:
                self.relay.land()
            except Refused as error:
                self.lay_blame(error)
            except psycopg.Error:  # whether it was committed is not known, so neither is it told
                pass
            self.session.close()
            self.session = None
        self.relay.drop()

    def batch(self, session: Session, most: int) -> Batch:
        """Attempt at most so many due events in one transaction, and log what became of each once it is committed.

        Each subject's events come in the order of their ids, and no further once one of them has to wait. Events
        left over when stopping or after BATCH_SECONDS are free again with the commit. Raises Refused, or
        psycopg.Error when the claim failed or the connection was lost; nothing of the batch is committed then.
        """
        batch = Batch(session)
        with batch.or_nothing():
            self._attempt_all(batch, most)
        here = session is self.session
        # Who has just lost to another is not tried again beside others: it would be lost and found without an end.
        overlaps = here and self.overlap and not self.blame.conflicts and not self.stopping.is_set()
        following = self.relay.end(batch, self.size, overlaps=overlaps and not self.settling.due(SETTLE_SECONDS))
        self.session = following if here else self.session
        return batch

    def _attempt_all(self, batch: Batch, most: int) -> None:
        """Claim, say so, and attempt; *batch* gets what became of each event as it is known."""
        session, handed = batch.session, batch.session.handed
        claimed = self.relay.next() or self.claim(session, most)
        self.runs.append(claimed.run_id)
        self.run_id = batch.run_id = claimed.run_id
        session.meet(claimed.backend)
        batch.idle = not claimed.ids and not claimed.more
        batch.all_seen, batch.blocked = claimed.all_seen, claimed.blocked
        events = self._take(session, self._read(session, claimed.ids)) if claimed.ids else []
        turns, began = Turns(events, self.watched.handlers_of), time.monotonic()
        while turn := turns.next():
            if batch.outcomes and (self.stopping.is_set() or time.monotonic() > began + BATCH_SECONDS):
                self.cursor.restart()
                break
            outcomes = self.watched.attempt(handed, turn, (claimed.run_id, claimed.backend, 0))
            if handed.undone:
                batch.outcomes = turns.again(handed.take_undone(), batch.outcomes)
            if batch.outcomes and any(outcome.conflict for outcome in outcomes):
                # What the other waits for may be locked by this batch's earlier events: they are committed, and this
                # one is run again after that, as if it had not been.
                self.cursor.restart()
                break
            turns.end(turn, outcomes)
            batch.outcomes += outcomes
        done = sum(outcome.done for outcome in batch.outcomes)
        # Whoever failed before may have had others wait behind it, which nobody tells of.
        first = all(event.attempt == 1 and not event.suspect for event in events)
        batch.spent = first and done == len(claimed.ids) < PREFIX and done > 0
        batch.full = done == len(claimed.ids) >= max(claimed.most, PREFIX)
        batch.quick = time.monotonic() - began < QUICK
        self.apart = max(0, self.apart - done) if done == len(batch.outcomes) else APART
        self.light = batch.quick and handed.savepoints <= LIGHT

    def _read(self, session: Session, ids: list[int]) -> list[Event]:
        """Say which events are about to run, and return them.

        Said before they are taken in, if not before they are sent: a body too big for this process, too, has somebody
        to blame.
        """
        self.watched.begin(self.run_id)
        session.begin(self.run_id, ids)
        ask(session.conn, ids)
        session.begun()
        return answered(session.conn)

    def lay_blame(self, refused: Refused) -> None:
        """Find out, or have it found out, which event a batch was refused for."""
        self.blame.lay(refused)

    def tell(self, outcomes: list[Outcome]) -> None:
        """Log and count what became of attempts, now that it is committed."""
        for outcome in outcomes:
            self.journal.write(outcome)
        self.totals.add(outcomes)

    def _take(self, session: Session, events: list[Event]) -> list[Event]:
        """Settle the lapsed leases among claimed events, and return the others, to be attempted in this transaction."""
        lapsed = [event.id for event in events if event.lease is not None]
        if lapsed:
            how = "its worker died, or its lease lapsed, while it was handled alone"
            names = {"lease": None, "ids": lapsed, "worker": "unknown", "how": how, "most": CRASHES_MAX}
            log_crashes(session.conn.execute(load("settle_leases"), names))
        return [event for event in events if event.lease is None]

    def claim(self, session: Session, most: int) -> Claimed:
        """Begin a transaction, and claim events for it. Raises psycopg.Error."""
        self.start(session)
        return claim(session.conn, most, self.scope, self.cursor, before=self._beginning)

    def asking(self, session: Session, most: int) -> bytes:
        """Return SQL that does that, but for start, which is to be called when it has."""
        return self._beginning + asking(session.conn, most, self.scope, self.cursor)

    def start(self, session: Session) -> None:
        """Have handlers share savepoints in the transaction that begins, unless one of them has just failed."""
        session.handed.start(self._settings, shares=not self.apart)

    @property
    def _beginning(self) -> bytes:
        return BEGIN + self._settings + b"; "
