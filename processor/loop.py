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
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import psycopg
from psycopg import Connection
from psycopg.rows import kwargs_row

from processor.attempt import Outcome, Refused, attempt, failed, record
from processor.event import Event, read_payload
from processor.failure import describe
from processor.registry import handlers_of
from processor.session import Session
from processor.wakeup import Wakeup
from sql import load

log = logging.getLogger("processor")

BATCH_SIZE = 50  # events a commit; past 64 writing savepoints PostgreSQL's subtransaction cache overflows
BATCH_SECONDS = 1.0  # of handler time, after which a batch commits and leaves the rest to the next
TIMEOUT = 60.0  # seconds that a handler may take, unless it or the command says otherwise
CRASHES_MAX = 3  # times that an event may end its worker while it runs alone
UNKNOWN_SECONDS = 3600.0  # an unknown type is logged once in so long


@dataclass(frozen=True)
class Scope:
    """Which events a processor takes; None: all."""

    sources: list[str] | None = None
    types: list[str] | None = None


@dataclass
class Totals:
    """Events by what became of them, over some batches."""

    claimed: int = 0
    handled: int = 0
    no_handler: int = 0
    retry: int = 0
    dead: int = 0

    def add(self, outcomes: list[Outcome]) -> None:
        """Count these attempts."""
        results = Counter(outcome.result for outcome in outcomes)
        self.claimed += len(outcomes)
        self.handled += results["handled"]
        self.no_handler += results["no_handler"]
        self.retry += results["retry"]
        self.dead += results["dead"]


class Page(Protocol):
    """Where a worker says what it is at; see processor.supervisor."""

    def begin(self, event: Event, run_id: int, backend: int, most: int, seconds: float) -> None:
        """Say that an event's handlers start now, and how long they may take; *backend*: the server's process."""

    def end(self) -> None:
        """Say that no handler is running."""


@dataclass
class Processor:
    """A worker: one batch at a time, until told to stop.

    connect() returns a new connection in autocommit mode; it is called again after a connection is lost.
    unknown: when each unknown type was last logged. lost: whether the database did not answer the last time.
    left: the number of the last session's runs, when it was lost.
    page: where to say which event is at work, for a supervisor that ends what takes too long.
    wakeup: what ends a wait before the interval is over.
    """

    connect: Callable[[], Connection]
    batch_size: int = BATCH_SIZE
    scope: Scope = field(default_factory=Scope)
    stopping: threading.Event = field(default_factory=threading.Event)
    unknown: dict[tuple[str, str], float] = field(default_factory=dict)
    session: Session | None = None
    lost: bool = False
    left: int = 0
    timeout: float = TIMEOUT
    page: Page | None = None
    wakeup: Wakeup = field(default_factory=Wakeup)

    def run(self, interval: float, *, max_events: int | None = None, once: bool = False) -> Totals:
        """Process what is due, wait to be woken or *interval* seconds when nothing is, and so on until stopping.

        Ends after *max_events* attempts, or with *once* when nothing is due any more. While the database is
        away, read-only or not migrated yet, it is tried again every second, and said once; with *once* that is
        raised, and always what the role has no right to.
        """
        totals = Totals()
        try:
            while not self.stopping.is_set() and totals.claimed != max_events:
                most = self.batch_size if max_events is None else min(self.batch_size, max_events - totals.claimed)
                outcomes = self._step(most, once=once)
                totals.add(outcomes or [])
                if outcomes == [] and once:
                    break
                if outcomes == []:
                    # Earlier, never later than asked: workers that started together part.
                    self._wait(interval * random.uniform(0.8, 1.0))  # noqa: S311 - not for secrecy
        finally:
            self._close()
        return totals

    def _step(self, most: int, *, once: bool) -> list[Outcome] | None:
        """Run one batch and return what became of it; None when it was refused, or there may be more at once."""
        try:
            outcomes = self.batch(self._open(), most)
        except Refused as error:
            self._close()
            self._blame(error)
            return None
        except psycopg.Error as error:
            self.left = self.session.run_id if self.session else self.left
            self._close()
            if once or isinstance(error, psycopg.errors.InsufficientPrivilege):
                raise
            if not self.lost:
                log.error("database unavailable cause=%s", describe(error))
            self.lost = True
            self.stopping.wait(1.0)
            return None
        if self.lost:
            log.warning("database recovered")
            self.lost = False
        return outcomes

    def _wait(self, seconds: float) -> None:
        if self.session and not self.wakeup.wait(self.session, seconds, self.stopping):
            self._close()

    def _open(self) -> Session:
        """Return the session, a new one where the last was lost, after settling what others left behind."""
        if self.session is None:
            self.session = Session.open(self.connect)
            # It is the database that went away under our last run, not we: no event of it is to blame.
            self.session.conn.execute(load("end_run"), {"run_id": self.left})
        self.settle(self.session)
        return self.session

    def _close(self) -> None:
        if self.session is not None:
            self.session.close()
            self.session = None

    def settle(self, session: Session) -> None:
        """Find the runs of workers that died, and blame the event that ran alone, suspect those that ran together."""
        if session.control is None:
            return
        for event, alone, dead in session.control.execute(load("reap_runs"), {"most": CRASHES_MAX}):
            if alone:
                log.error("event %s its worker id=%d", "is dead: it ended" if dead else "ended", event)
            else:
                log.warning("event suspect id=%d; its worker died", event)

    def batch(self, session: Session, most: int) -> list[Outcome] | None:
        """Attempt at most so many due events in one transaction, and log what became of each once it is committed.

        Each subject's events come in the order of their ids, and no further once one of them has to wait. Events
        left over when stopping or after BATCH_SECONDS are free again with the commit. [] means that nothing is
        due that another worker doesn't have, None that this isn't known yet. Raises Refused, or psycopg.Error
        when the claim failed or the connection was lost; nothing of the batch is committed then.
        """
        outcomes: list[Outcome] = []
        try:
            with session.conn.transaction():
                try:
                    known = self._attempt_all(session, most, outcomes)
                except BaseException:
                    session.give_up()
                    raise
        except psycopg.Error as error:
            if not outcomes or session.conn.closed:
                raise
            raise Refused([outcome.event for outcome in outcomes], error) from error
        for outcome in outcomes:
            self._log(outcome)
        return outcomes if known else None

    def _attempt_all(self, session: Session, most: int, outcomes: list[Outcome]) -> bool:
        """Claim, say so, attempt, record; what became of each goes to *outcomes* as it is known.

        Returns whether the claim came to an end.
        """
        events = self._claim(session, most)
        if not events:
            return events is not None
        session.begin(events)
        until, waiting = time.monotonic() + BATCH_SECONDS, set()
        for event in events:
            if outcomes and (self.stopping.is_set() or time.monotonic() > until):
                break
            if event.subject not in waiting:
                handlers = handlers_of(event)
                if self.page and handlers:
                    seconds = sum(handler.timeout or self.timeout for handler in handlers)
                    backend = session.conn.info.backend_pid
                    self.page.begin(event, session.run_id, backend, handlers[0].max_attempts, seconds)
                outcomes.append(attempt(session.conn, event, handlers))
                if self.page:
                    self.page.end()
                if outcomes[-1].result == "retry" and event.subject is not None:
                    waiting.add(event.subject)
        record(session.conn, outcomes)
        # What a commit would check is checked here, where its refusal can still be told from our death.
        session.conn.execute("SET CONSTRAINTS ALL IMMEDIATE")
        if session.control:
            session.conn.execute(load("end_run"), {"run_id": session.run_id})
        return True

    def _claim(self, session: Session, most: int) -> list[Event] | None:
        names = {
            "run_id": session.run_id,
            "batch": most,
            "sources": self.scope.sources,
            "types": self.scope.types,
        }
        (ids,) = session.conn.execute(load("claim"), names).fetchone() or ([],)
        cursor = session.conn.cursor(row_factory=kwargs_row(_event))
        return cursor.execute(load("read_claimed"), {"ids": ids}).fetchall() if ids else ids

    def _blame(self, refused: Refused) -> None:
        """Count the attempt of the one event that can be to blame; of several, have each run alone next."""
        ids = [event.id for event in refused.events]
        log.error("batch refused events=%d first=%d cause=%s", len(ids), ids[0], str(refused).partition(":")[0])
        try:
            with self.connect() as conn, conn.transaction():
                if len(ids) > 1:
                    conn.execute(load("suspect_events"), {"ids": ids})
                else:
                    event = refused.events[0]
                    record(conn, [failed(event, handlers_of(event)[:1], refused)])
        except psycopg.Error as error:
            log.warning("attempt not counted first=%d cause=%s", ids[0], describe(error))
            self.stopping.wait(1.0)

    def _log(self, outcome: Outcome) -> None:
        event = outcome.event
        if outcome.result == "no_handler":
            self._log_unknown(event)
        elif outcome.result == "handled":
            log.info(
                "event handled id=%d type=%s attempt=%d ms=%.0f",
                event.id, event.event_type, event.attempt, outcome.seconds * 1000,
            )  # fmt: skip
        else:
            due = f" due_in={outcome.wait.total_seconds():.0f}s" if outcome.wait else ""
            log.warning(
                "event %s id=%d type=%s attempt=%d%s cause=%s",
                "failed" if outcome.wait else "dead", event.id, event.event_type, event.attempt, due,
                (outcome.error or "").partition(":")[0],
            )  # fmt: skip

    def _log_unknown(self, event: Event) -> None:
        kind, now = (event.event_type, event.provider_type), time.monotonic()
        if now - self.unknown.get(kind, -UNKNOWN_SECONDS) >= UNKNOWN_SECONDS:
            self.unknown = {known: at for known, at in self.unknown.items() if now - at < UNKNOWN_SECONDS}
            self.unknown[kind] = now
            log.warning(
                "event has no handler id=%d type=%s provider_type=%s; add one with @on and replay",
                event.id, *kind,
            )  # fmt: skip


def _event(*, headers: str, payload: str | None, **columns: Any) -> Event:
    return Event(headers=read_payload(headers), payload=read_payload(payload), **columns)
