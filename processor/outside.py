"""A worker for events that have an outside handler: many at a time, in no transaction, each under a lease.

A lease is next_attempt_at moved ahead, with the worker's number beside it: nobody else finds the event due, and it
is due again when its worker is silent for LEASE_SECONDS. What became of it is written in one transaction that first
asks whether the lease is still this worker's, together with the event's writes to the database.
"""

import logging
import threading
import time
from dataclasses import dataclass, field, replace
from datetime import timedelta

import psycopg
from psycopg import Connection

from processor.attempt import Refused, calls_of, failed
from processor.batch import Batch
from processor.breakers import PROBE_SECONDS, Breakers
from processor.claim import Claimed, claim
from processor.cursor import Cursor
from processor.event import Event
from processor.handed import Handed
from processor.loop import BATCH_SECONDS, Processor
from processor.outcome import Outcome
from processor.page import Page
from processor.pool import Pool, Run
from processor.record import record
from processor.registry import handlers_of, longest
from processor.session import Session
from sql import load

log = logging.getLogger("processor")

CONCURRENCY = 16
LEASE_SECONDS = 30.0  # past what one event's handlers may take, without a word, after which a worker is taken for dead
EXTEND_SECONDS = 10.0
BEAT_SECONDS = 1.0
LOOK_SECONDS = 0.1  # between two looks for new events while handlers are running


@dataclass
class Outside(Processor):
    """A worker that runs at most *concurrency* events' outside handlers at once, and leases twice as many ahead.

    Events of its types without an outside handler of their own it attempts as any worker does. lease: its number.
    running: leased events, by id. chosen: those that the transaction in hand leases. ended: those whose handlers have
    run, until that is committed; singly: one at a time, since a commit of several was refused.
    """

    concurrency: int = CONCURRENCY
    breakers: Breakers = field(default_factory=Breakers)
    pool: Pool | None = None
    lease: int = 0
    running: dict[int, Run] = field(default_factory=dict)
    chosen: list[Run] = field(default_factory=list)
    ended: list[Run] = field(default_factory=list)
    singly: bool = False
    suspect_waits: bool = False
    hanging: int = 0
    extended_at: float = 0.0
    claimed_last: bool = False
    overlap: bool = False  # what it leases lasts longer than a batch

    def batch(self, session: Session, most: int) -> Batch:
        """Finish what has ended, lease what is due, as far as there is room; see Processor.batch."""
        pool = self._pool(session)
        batch, free = Batch(session), self._free(most)
        if self.running:
            # New events are looked for now and then; at once, where the last look found some.
            wait = 0.0 if self.ended or (free and self.claimed_last) else LOOK_SECONDS
            self.ended += [run for run in pool.ended(wait) if self.running.get(run.event.id) is run]
        self._end_late(pool)
        batch.outcomes += self._finish(session)
        self._extend(session)
        if self.stopping.is_set():
            self._give_back(session, pool)
        elif (free := self._free(most)) > 0:
            self.chosen = []
            claimed = super().batch(session, free)
            self.claimed_last = bool(self.chosen)
            for run in self.chosen:
                self.running[run.event.id] = run
                pool.submit(run)
            batch.outcomes += claimed.outcomes
            batch.idle = claimed.idle and not self.running
            batch.all_seen, batch.blocked = claimed.all_seen, claimed.blocked
        return batch

    def _over(self, *, spent: bool) -> bool:
        # A thread that hangs ends with its process, which the supervisor replaces.
        return (super()._over(spent=spent) or self._worn) and not self.running

    @property
    def _worn(self) -> bool:
        return self.hanging > 0 and self.page is not None

    @property
    def _ttl(self) -> timedelta:
        # Its own thread may be at a handler's writes for as long as that may take, and prolongs nothing meanwhile.
        return timedelta(seconds=LEASE_SECONDS + longest(self.timeout))

    def _free(self, most: int) -> int:
        """Return how many more events may be leased."""
        if not self.running:
            self.suspect_waits = False
        alone = self.suspect_waits or any(run.event.suspect for run in self.running.values())
        return 0 if alone or self._worn else min(3 * self.concurrency, most) - len(self.running)

    def _pool(self, session: Session) -> Pool:
        if self.pool is None:  # not before the fork: threads don't survive it
            self.pool = Pool(self.concurrency)
            with session.conn.transaction():
                (self.lease,) = session.conn.execute(load("next_lease")).fetchone() or (0,)
                self.breakers.forget(session.conn)
            if self.page:
                threading.Thread(target=self._beat, args=(self.page,), name="heartbeat", daemon=True).start()
        return self.pool

    def _beat(self, page: Page) -> None:
        """Show that this process lives; in a thread, so that a database that hangs does not look like a dead worker."""
        while True:
            page.hold(self.lease)
            time.sleep(BEAT_SECONDS)

    def claim(self, session: Session, most: int) -> Claimed:
        """As Processor's, of what no open breaker shuts out."""
        session.handed.start(self._settings)
        session.conn.execute(self._beginning)
        self.breakers.read(session.conn)
        probed = self.breakers.take_probe(session.conn)
        scope = replace(self.scope, shut=self.scope.shut + self.breakers.shut(probed))
        if probed is None:
            # One of a subject: its next waits as behind any event that waits.
            return claim(session.conn, most, scope, self.cursor, prefix=1)
        sources = self.scope.sources if probed.source is None else [probed.source]
        scope = replace(scope, types=list(probed.event_types), sources=sources)
        return replace(claim(session.conn, 1, scope, Cursor(), prefix=1), more=True)  # but for this one's

    def _take(self, session: Session, events: list[Event]) -> list[Event]:
        """Lease the events that have an outside handler; return the others, to be attempted in this transaction."""
        inside = []
        for event in super()._take(session, events):
            handlers = [handler for handler in handlers_of(event) if handler.outside]
            if event.suspect and self.running:
                self.suspect_waits = True
                self.cursor.restart()
            elif handlers:
                timeout = sum(handler.timeout or self.timeout for handler in handlers)
                self.chosen.append(Run(event, handlers, timeout))
            else:
                inside.append(event)
        if self.chosen:
            ids = [run.event.id for run in self.chosen]
            session.conn.execute(load("lease_events"), {"lease": self.lease, "ids": ids, "ttl": self._ttl})
        return inside

    def _finish(self, session: Session) -> list[Outcome]:
        """Commit what became of the ended runs with what they write. Raises Refused, or psycopg.Error."""
        if not self.ended:
            self.singly = False
            return []
        conn, ended, outcomes = session.conn, self.ended[:1] if self.singly else self.ended, list[Outcome]()
        ids, replays = [run.event.id for run in ended], [run.event.replays for run in ended]
        until = time.monotonic() + BATCH_SECONDS
        try:
            with conn.transaction():
                conn.execute(self._settings)
                session.handed.start(self._settings)
                names = {"lease": self.lease, "ids": ids, "replays": replays}
                row = conn.execute(load("lock_leased"), names).fetchone()
                run_id, backend, own, lost = row or (0, 0, [], [])
                for run in ended:
                    if run.event.id in own and (not outcomes or time.monotonic() < until):
                        outcomes.append(self._count(conn, self._write(session.handed, run, backend)))
                if ending := session.handed.end():
                    conn.execute(ending)
                record(conn, outcomes, self.lease)
                conn.execute(load("end_run"), {"run_id": run_id})
        except psycopg.Error as error:
            if not outcomes or conn.closed:
                raise
            raise Refused([outcome.event for outcome in outcomes], error) from error
        for event in lost:
            self._lose(event)
        for outcome in outcomes:
            del self.running[outcome.event.id]
        self.tell(outcomes)
        # Another's lock, or the time, left the others for the next look.
        self.ended = [run for run in self.ended if run.event.id in self.running]
        return outcomes

    def _write(self, conn: Handed, run: Run, backend: int) -> Outcome:
        """Call what the outside handlers returned, and the event's other handlers."""
        inside = [handler for handler in handlers_of(run.event) if not handler.outside]
        calls = [*run.writes, *calls_of(run.event, inside)]
        if run.error is not None:
            return failed(run.event, tuple(run.ran), run.error, run.seconds)
        if not calls:
            return Outcome(run.event, "handled", seconds=run.seconds, handlers=tuple(run.ran))
        outcome = self.watched.call(conn, run.event, calls, (self.run_id, backend, self.lease))
        assert outcome is not None  # noqa: S101 - it shares no savepoint
        seconds = (run.seconds or 0) + (outcome.seconds or 0)
        ran = (*run.ran, *inside) if outcome.result == "handled" else outcome.handlers
        return replace(outcome, seconds=seconds, handlers=ran)

    def _count(self, conn: Connection, outcome: Outcome) -> Outcome:
        """Tell the breakers; while its handler's is open, a failure spends no attempt."""
        *_, last = outcome.handlers
        if outcome.result == "handled":
            for handler in outcome.handlers:
                self.breakers.succeeded(conn, handler)
        elif last.outside and outcome.faulty and self.breakers.failed(conn, last, outcome.error or ""):
            return replace(outcome, result="retry", wait=timedelta(seconds=PROBE_SECONDS), counted=False)
        return outcome

    def _extend(self, session: Session) -> None:
        """Prolong the leases now and then."""
        if self.running and time.monotonic() - self.extended_at >= EXTEND_SECONDS:
            names = {"lease": self.lease, "ids": list(self.running), "ttl": self._ttl}
            with session.conn.transaction():
                lost = session.conn.execute(load("extend_leases"), names).fetchall()
            for (event,) in lost:
                self._lose(event)
            self.extended_at = time.monotonic()

    def _lose(self, event: int) -> None:
        """Let an event go that was replayed, closed by hand, or leased by another since."""
        log.warning("lease lost id=%d; what became of it is not kept", event)
        del self.running[event]
        self.ended = [run for run in self.ended if run.event.id != event]

    def _give_back(self, session: Session, pool: Pool) -> None:
        """Free the leased events that no thread has begun."""
        ids = [run.event.id for run in pool.take_back() if self.running.pop(run.event.id, None)]
        if ids:
            with session.conn.transaction():
                session.conn.execute(load("return_leases"), {"lease": self.lease, "ids": ids})

    def _end_late(self, pool: Pool) -> None:
        """Take runs past their time for failed; their threads hang, others are put in their place."""
        for event, run in self.running.items():
            if run.seconds is None and run.late:
                log.error("event timed out id=%d after=%gs; its thread is left behind", event, run.timeout)
                self.running[event] = run.time_out()
                self.ended.append(self.running[event])
                self.hanging += 1
                pool.add_thread()

    def lay_blame(self, refused: Refused) -> None:
        """As Processor.lay_blame, for leased events: those behind a refused commit are finished one at a time."""
        first = refused.events[0]
        if first.id not in self.running:
            super().lay_blame(refused)
        elif self.blame.lost_to_another(refused):
            return
        elif len(refused.events) > 1:
            self.singly = True
        else:
            run = self.running[first.id]
            outcome = failed(first, tuple(run.ran), refused.__cause__ or refused, run.seconds)
            if self.blame.elsewhere(lambda conn: record(conn, [outcome], self.lease)):
                self.journal.write(outcome)
            del self.running[first.id]
            self.ended.remove(run)
