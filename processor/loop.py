"""The claim, the handlers, the commit: the loop that makes attempts.

One transaction a batch: it locks the events' rows and subjects, holds a savepoint an event, and ends by setting
processed_at. The locks are the claim and the commit is the completion, so a handler's writes and processed_at
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
from psycopg.pq import ExecStatus

from processor.attempt import (
    CONFLICTS_MAX,
    Call,
    Refused,
    Tell,
    attempt_together,
    call_all,
    calls_of,
    failed,
    record,
    unhandled,
)
from processor.batch import Batch
from processor.claim import PREFIX, Claimed, Scope, asking, claim, claimed, read
from processor.cursor import FULL_SCAN, Cursor
from processor.event import Event
from processor.expect import raise_overdue
from processor.failure import describe
from processor.handed import Handed
from processor.migrations import PENDING
from processor.outcome import Journal, Outcome, Totals, log_crashes
from processor.page import InHand, Page
from processor.registry import HANDLERS, Handler, handlers_of, longest
from processor.session import Session, settings
from processor.turns import Turns
from processor.wakeup import Wakeup
from sql import load

log = logging.getLogger("processor")

BATCH_SIZE = 50  # events a commit; past 64 writing savepoints PostgreSQL's subtransaction cache overflows
BATCH_SECONDS = 1.0  # of handler time, after which a batch commits and leaves the rest to the next
TIMEOUT = 60.0  # seconds that a handler may take, unless it or the command says otherwise
GRACE = 10.0  # seconds past its timeout, after which the server ends an attempt whose supervisor is gone as well
CRASHES_MAX = 3  # times that an event may end its worker while it runs alone
BLOCKED_SECONDS = 0.25  # between two looks at events whose turn it isn't: another worker's subject comes free untold
SETTLE_SECONDS = 0.5  # between two looks for workers that died, at least; where there is no time for one
SETTLE_LATEST = 2.0  # between two waits, at most
APART = 100  # events that share no savepoint, after one has failed
QUICK = 0.1  # seconds of handler time: after such a batch the one after the next is claimed while the next one runs
LEAN = 10  # batches for which nothing is claimed ahead, where what waits is of subjects in hand
# The claim's later statements must see what was committed since its first.
BEGIN = b"BEGIN ISOLATION LEVEL READ COMMITTED; "
OVERDUE_SECONDS = 1.0  # between two looks for what is overdue, at least
OVERDUE_SHARE = 20  # and so many times what the last one took: it reads all that a backlog keeps from being overdue


@dataclass
class Processor:
    """A worker: one batch at a time, until told to stop.

    connect() returns a new connection in autocommit mode; it is called again after a connection is lost.
    lost: whether the database did not answer the last time.
    run_id, backend: the batch in hand, or the last one, and the server's process for it.
    conflicts: batches in a row that lost to another's transaction.
    settled_at: when it last looked for workers that died; overdue_at: when it will look for what is overdue.
    page: where to say which event is at work, for a supervisor that ends what takes too long.
    listen: whether to let the receiver end a wait, before the interval is over.
    spare: another connection, on which the next batch, ahead, is claimed while this one's commit is under way; overlap:
    whether that may be. lean: batches until that is tried again, where it found nothing.
    """

    connect: Callable[[], Connection]
    batch_size: int = BATCH_SIZE
    scope: Scope = field(default_factory=Scope)
    stopping: threading.Event = field(default_factory=threading.Event)
    journal: Journal = field(default_factory=Journal)
    session: Session | None = None
    cursor: Cursor = field(default_factory=Cursor)
    lost: bool = False
    run_id: int = 0
    backend: int = 0
    conflicts: int = 0
    settled_at: float = float("-inf")
    overdue_at: float = float("-inf")
    timeout: float = TIMEOUT
    page: Page | None = None
    listen: bool = True
    overlap: bool = True
    spare: Session | None = None
    under_way: Batch | None = None
    runs: deque[int] = field(default_factory=lambda: deque(maxlen=2))
    totals: Totals = field(default_factory=Totals)
    ahead: Claimed | None = None
    lean: int = 0
    apart: int = 0

    def __post_init__(self) -> None:
        """Know how to wait."""
        self.wakeup = Wakeup(listen=self.listen)
        self._kinds: dict[tuple[str, str, str], list[Handler]] = {}  # of the batch in hand, and whose they are

    @cached_property
    def _settings(self) -> bytes:
        # A supervisor ends who takes longer; without one nobody does. Before the first batch the handlers are loaded
        # and the page is given.
        return settings(longest(self.timeout) + GRACE if self.page else 0)

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
                most = self.batch_size if max_events is None else min(self.batch_size, max_events - totals.claimed)
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
                elif batch.spent and self.wakeup.listening and not once:
                    # Of what comes next we are told. What this claim passed by waits as what is blocked does.
                    self._wait(BLOCKED_SECONDS)
        finally:
            self._close()
        return totals

    def _over(self, *, spent: bool) -> bool:
        """Tell whether to return; *spent*: as many attempts were made as were asked for."""
        return spent or self.stopping.is_set()

    def _step(self, most: int, *, once: bool) -> Batch | None:
        """Run one batch and return it; None when it was refused, or the database is away."""
        try:
            batch = self.batch(self._open(), most)
        except Refused as error:
            self._close()
            self._blame(error)
            return None
        except psycopg.Error as error:
            self._close()
            if once or isinstance(error, psycopg.errors.InsufficientPrivilege):
                raise
            if not self.lost:
                todo = "; run `processor db migrate`" if isinstance(error, PENDING) else ""
                log.error("database unavailable cause=%s%s", describe(error), todo)
            self.lost = True
            self.stopping.wait(1.0)
            return None
        self.conflicts = 0
        if self.lost:
            log.warning("database recovered")
            self.lost = False
        return batch

    def _wait(self, seconds: float) -> None:
        self._drop_spare()  # who has nothing to do holds no more connections than it needs
        if self.session is None:
            return
        try:
            if self._settle_due(SETTLE_SECONDS) and self.settle(self.session):
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
            self.settled_at = float("-inf")
        # Who was told of an event attends to that first, and settles before it waits again.
        if not self.ahead and self._settle_due(SETTLE_LATEST if self.wakeup.told else SETTLE_SECONDS):
            self.settle(self.session)
        return self.session

    def _settle_due(self, seconds: float) -> bool:
        return time.monotonic() - self.settled_at >= seconds

    def _close(self) -> None:
        """Close the connections, once what was sent on one is answered; what was claimed ahead is free again."""
        if self.session is not None:
            self.session.conn.close()
            try:
                self._land()
            except Refused as error:
                self._blame(error)
            except psycopg.Error:  # whether it was committed is not known, so neither is it told
                pass
            self.session.close()
            self.session = None
        self._drop_spare()

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

    def batch(self, session: Session, most: int) -> Batch:
        """Attempt at most so many due events in one transaction, and log what became of each once it is committed.

        Each subject's events come in the order of their ids, and no further once one of them has to wait. Events
        left over when stopping or after BATCH_SECONDS are free again with the commit. Raises Refused, or
        psycopg.Error when the claim failed or the connection was lost; nothing of the batch is committed then.
        """
        batch = Batch(session)
        with batch.or_nothing():
            self._attempt_all(batch, most)
            early = batch.full and self._may_overlap(session)
            then = self._asking(session, most) if early and batch.quick else b""
            sent = batch.send_end(then)
        before, self.under_way = self.under_way, batch if sent else None
        if not sent:
            self._tell(batch.outcomes)
        try:
            self._landed(before)
        except (psycopg.Error, Refused):
            self._land()
            raise
        if early and not self.ahead and not self.lean:
            self._claim_ahead(session, most)
        if self.ahead:
            self.session, self.spare = self.spare, self.session
        else:
            self._land()
        return batch

    def _attempt_all(self, batch: Batch, most: int) -> None:
        """Claim, say so, and attempt; *batch* gets what became of each event as it is known."""
        session = batch.session
        claimed, self.ahead = self.ahead or self._claim(session, most), None
        self.runs.append(claimed.run_id)
        self.run_id, self.backend = batch.run_id, batch.backend = claimed.run_id, claimed.backend
        session.meet(self.backend)
        batch.idle = not claimed.ids and not claimed.more
        batch.all_seen, batch.blocked = claimed.all_seen, claimed.blocked
        if claimed.ids:
            # Before they are read: a body too big for this process, too, has somebody to blame.
            if self.page:
                self.page.run(self.run_id)
            session.begin(self.run_id, claimed.ids)
        events = self._take(session, read(session.conn, claimed.ids)) if claimed.ids else []
        self._kinds.clear()  # a handler may be registered at any time
        turns, until = Turns(events, self._handlers_of), time.monotonic() + BATCH_SECONDS
        while turn := turns.next():
            if batch.outcomes and (self.stopping.is_set() or time.monotonic() > until):
                self.cursor.restart()
                break
            outcomes = self._attempt_together(session, turn) if len(turn) > 1 else self._attempt(session, turn[0])
            if undone := session.handed.undone:
                session.handed.undone = []
                batch.outcomes = turns.again(undone, batch.outcomes)
            if batch.outcomes and any(outcome.conflict for outcome in outcomes):
                # What the other waits for may be locked by this batch's earlier events: they are committed, and this
                # one is run again after that, as if it had not been.
                self.cursor.restart()
                break
            turns.end(turn, outcomes)
            batch.outcomes += outcomes
        done = len(claimed.ids) == sum(outcome.result in ("handled", "no_handler") for outcome in batch.outcomes)
        few = 0 < len(claimed.ids) < PREFIX and not any(event.suspect for event in events)
        batch.spent = claimed.all_seen and few and done
        failed = any(outcome.result in ("retry", "dead") for outcome in batch.outcomes)
        self.apart = APART if failed else max(0, self.apart - len(batch.outcomes))
        batch.quick = time.monotonic() - (until - BATCH_SECONDS) < QUICK
        batch.full = done and len(claimed.ids) == most >= PREFIX

    def _may_overlap(self, session: Session) -> bool:
        """Tell whether the next batch may be claimed before this one is committed."""
        self.lean = max(0, self.lean - 1)
        here = session is self.session and self.overlap and not self.stopping.is_set()
        return here and not self.lean and not self._settle_due(SETTLE_SECONDS)

    def _asking(self, session: Session, most: int) -> bytes:
        """Return SQL of another transaction, that claims the batch after the next."""
        return self._beginning + asking(session.conn, most, self.scope, self.cursor)

    def _land(self) -> None:
        """Wait until the batch is committed whose COMMIT was sent. Raises as Batch.answered."""
        batch, self.under_way = self.under_way, None
        self._landed(batch)

    def _landed(self, batch: Batch | None) -> None:
        """Wait until it is committed, and for the claim that was sent with it."""
        if batch is None:
            return
        more = batch.answered()
        self._tell(batch.outcomes)
        if more and more[-1].status == ExecStatus.TUPLES_OK:
            self._claimed_ahead(batch.session, claimed(batch.session.conn, more[-1], self.cursor))
        elif more:  # the next claim meets it again, where it can be told
            batch.session.roll_back()

    def _claimed_ahead(self, session: Session, ahead: Claimed) -> None:
        if ahead.ids:
            session.handed.start(self._settings, shares=not self.apart)
            self.ahead = ahead
        else:
            session.roll_back()
            self.lean = LEAN

    def _tell(self, outcomes: list[Outcome]) -> None:
        """Log and count what became of attempts, now that it is committed."""
        for outcome in outcomes:
            self.journal.write(outcome)
        self.totals.add(outcomes)

    def _claim_ahead(self, session: Session, most: int) -> None:
        """Claim the next batch, on another connection, while this one's commit is under way.

        To everybody else that is one worker's claim beside another's commit, and its handlers are another worker's.
        It begins to run when its turn comes, so until then nobody is to blame for its events.
        """
        try:
            self.spare = self.spare or session.second(self.connect)
            self._claimed_ahead(self.spare, self._claim(self.spare, most))
        except psycopg.Error:  # the next claim meets it again, where it can be told
            self._drop_spare()

    def _drop_spare(self) -> None:
        self.ahead = None
        if self.spare is not None:
            self.spare.conn.close()
            self.spare = None

    def _take(self, session: Session, events: list[Event]) -> list[Event]:
        """Settle the lapsed leases among claimed events, and return the others, to be attempted in this transaction."""
        lapsed = [event.id for event in events if event.lease is not None]
        if lapsed:
            how = "its worker died, or its lease lapsed, while it was handled alone"
            names = {"lease": None, "ids": lapsed, "worker": "unknown", "how": how, "most": CRASHES_MAX}
            log_crashes(session.conn.execute(load("settle_leases"), names))
        return [event for event in events if event.lease is None]

    def _handlers_of(self, event: Event) -> list[Handler]:
        kind = (event.event_type, event.provider, event.source)
        handlers = self._kinds.get(kind)
        if handlers is None:
            handlers = self._kinds[kind] = handlers_of(event)
        return handlers

    def _attempt(self, session: Session, event: Event) -> list[Outcome]:
        handlers = self._handlers_of(event)
        if not handlers:
            return [unhandled(event)]
        outcome = self._watch(session.handed, event, calls_of(event, handlers), (self.run_id, self.backend, 0))
        return [outcome] if outcome else []

    def _watch(self, conn: Handed, event: Event, calls: list[Call], in_hand: InHand) -> Outcome | None:
        """As call_all, where a supervisor sees which handler takes how long."""
        try:
            return call_all(conn, event, calls, self._announce([event], in_hand))
        finally:
            if self.page:
                self.page.run(self.run_id)

    def _attempt_together(self, session: Session, events: list[Event]) -> list[Outcome]:
        (handler,) = self._handlers_of(events[0])
        try:
            tell = self._announce(events, (self.run_id, self.backend, 0))
            return attempt_together(session.handed, events, handler, tell)
        finally:
            if self.page:
                self.page.run(self.run_id)

    def _announce(self, events: list[Event], in_hand: InHand) -> Tell | None:
        """Return what says on the page which handler is at these events."""
        page = self.page
        if page is None:
            return None
        return lambda handler: page.begin(events, in_hand, HANDLERS.index(handler), handler.timeout or self.timeout)

    def _claim(self, session: Session, most: int) -> Claimed:
        """Begin a transaction, and claim events for it."""
        session.handed.start(self._settings, shares=not self.apart)
        return claim(session.conn, most, self.scope, self.cursor, before=self._beginning)

    @property
    def _beginning(self) -> bytes:
        return BEGIN + self._settings + b"; "

    def _blame(self, refused: Refused) -> None:
        """Count the attempt of the one event that can be to blame; of several, have each run alone next."""
        if self._lost_to_another(refused):
            return
        ids = [event.id for event in refused.events]
        log.error("batch refused events=%d first=%d cause=%s", len(ids), ids[0], str(refused).partition(":")[0])
        if len(ids) > 1:
            self._elsewhere(lambda conn: conn.execute(load("suspect_events"), {"ids": ids}))
        else:
            event = refused.events[0]
            outcome = failed(event, tuple(handlers_of(event)[:1]), refused.__cause__ or refused, None)
            if self._elsewhere(lambda conn: record(conn, [outcome])):
                self.journal.write(outcome)

    def _lost_to_another(self, refused: Refused) -> bool:
        """Tell whether a batch was refused in favour of another transaction, and is to be run again at once."""
        if not refused.conflict or self.conflicts >= CONFLICTS_MAX:
            return False
        self.conflicts += 1
        log.warning("batch lost to another transaction events=%d first=%d", len(refused.events), refused.events[0].id)
        return True

    def _elsewhere(self, change: Callable[[Connection], object]) -> bool:
        """Write on another connection what the batch's own could not; return whether the database took it."""
        try:
            with self.connect() as conn, conn.transaction():
                change(conn)
        except psycopg.Error as error:
            log.warning("attempt not counted cause=%s", describe(error))
            self.stopping.wait(1.0)
            return False
        return True
