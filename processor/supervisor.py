"""The processes of `processor run`: a worker each, replaced when it dies, killed when a handler takes too long.

A handler that hangs in C or in a loop can't be interrupted from within, so a worker is a process of its own. It
tells what it is at through a page of shared memory: no call to the system an event.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import timedelta

import psycopg
from psycopg import Connection

from processor.backoff import backoff
from processor.failure import describe
from processor.loop import Processor
from processor.outcome import log_crashes
from processor.page import AtWork, Page
from processor.registry import HANDLERS
from processor.session import worker_name
from processor.settle import CRASHES_MAX
from sql import load
from sql.fork import fork, hear

log = logging.getLogger("processor")

TICK = 0.1  # seconds between two looks at the workers
BAD_CONFIGURATION = 78  # a worker that ends with it would do so again: all end
RESTART_SECONDS = 1.0  # a worker that lived shorter is replaced after so long, so that a broken one doesn't spin


@dataclass
class Child:
    """A worker's process; make: what its Processor was, and its successor's will be, made by."""

    make: Callable[[], Processor]
    pid: int
    page: Page
    started_at: float
    killed: bool = False  # by us, and accounted for

    @property
    def name(self) -> str:
        """Its name in the database."""
        return worker_name(self.pid)


@dataclass
class Supervisor:
    """Keeps a worker of each make running until *stopping* is set, then lets each finish the event in hand.

    Once *leaving* is set as well it kills them, and says that no event was to blame.

    makes: each makes the Processor of a new process; connect: as a Processor's; chore: is called every TICK. Fork is
    safe: this process has no thread and no connection but for the moment in which it records what a worker can't.
    """

    makes: list[Callable[[], Processor]]
    connect: Callable[[], Connection]
    interval: float
    stopping: threading.Event
    leaving: threading.Event = field(default_factory=threading.Event)
    chore: Callable[[], None] = lambda: None
    children: list[Child] = field(default_factory=list)
    due: list[tuple[float, Callable[[], Processor]]] = field(default_factory=list)

    def run(self) -> int:
        """Return the exit code: 0, or that of a worker whose configuration is bad."""
        self.due = [(0.0, make) for make in self.makes]
        code = 0
        while not self.stopping.is_set():
            now = time.monotonic()
            starting = [make for at, make in self.due if at <= now]
            self.due = [(at, make) for at, make in self.due if at > now]
            self.children += map(self._start, starting)
            self.chore()
            self.stopping.wait(TICK)
            code = max(code, self._collect())
            self._end_late()
            if code:
                self.stopping.set()
        for child in self.children:
            os.kill(child.pid, signal.SIGTERM)
        while self.children and not self.leaving.is_set():
            self.leaving.wait(TICK / 4)
            self._collect()
            self._end_late()
        self._leave()
        return code

    def _start(self, make: Callable[[], Processor]) -> Child:
        page = Page()
        return Child(make, fork(lambda: _work(make, page, self.interval)), page, time.monotonic())

    def _collect(self) -> int:
        """Take leave of the workers that ended; have each replaced. Return the code of one with a bad configuration."""
        code = 0
        for child in list(self.children):
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid == 0:
                continue
            self.children.remove(child)
            ended = os.waitstatus_to_exitcode(status)
            how = f"signal {signal.Signals(-ended).name}" if ended < 0 else f"exit code {ended}"
            if ended == BAD_CONFIGURATION:
                code = ended
            elif ended != 0 and not child.killed:
                at_work = child.page.read().event or "none"
                log.error("worker died pid=%d cause=%r event=%s", child.pid, how, at_work)
                self._account(child, how)
            elif not self.stopping.is_set() and not child.killed:
                log.warning("worker replaced pid=%d", child.pid)
            now = time.monotonic()
            early = now - child.started_at < RESTART_SECONDS
            self.due.append((now + RESTART_SECONDS / 4 if early else now, child.make))
        return code

    def _leave(self) -> None:
        """Kill the workers that are left; what they had in hand is due again, and nobody is to blame."""
        if not self.children:
            return
        for child in self.children:
            os.kill(child.pid, signal.SIGSTOP)  # or its next run would begin now
        try:
            with self.connect() as conn:
                for child in self.children:
                    _abandon(conn, child.page.before(), child.page.read().run_id)
                    os.kill(child.pid, signal.SIGKILL)
                    conn.execute(load("abandon_leases"), {"lease": child.page.held()})
        except psycopg.Error as error:
            log.warning("left without a word to the database cause=%s", describe(error))
        for child in self.children:
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)

    def _account(self, child: Child, how: str) -> None:
        """Have a worker's death counted, by us or by whoever finds it first, and say of what it was."""
        event, lease = child.page.read().event, child.page.held()
        blamed = f"worker {child.name} died while it handled this event ({how})"
        leases = {"lease": lease, "ids": [], "most": CRASHES_MAX, "worker": child.name, "how": blamed}
        try:
            with self.connect() as conn:
                _abandon(conn, child.page.before())
                log_crashes(conn.execute(load("reap_runs"), {"most": CRASHES_MAX}))
                if event:
                    conn.execute(load("explain_crash"), {"id": event, "worker": child.name, "how": how})
                if lease:
                    log_crashes(conn.execute(load("settle_leases"), leases))
        except psycopg.Error as error:
            log.warning("worker's death not accounted for pid=%d cause=%s", child.pid, describe(error))

    def _end_late(self) -> None:
        for child in self.children:
            at_work = child.page.read()
            if at_work.late and not child.killed:
                time.sleep(0.01)  # it may just have been writing: a page is not written at once
                if child.page.read() == at_work:
                    self._time_out(child, at_work)
            elif child.page.stuck() and not child.killed:
                # A handler holds the interpreter's lock, say: it counts as one that ended its worker.
                log.error("worker stuck pid=%d; it is replaced", child.pid)
                os.kill(child.pid, signal.SIGKILL)

    def _time_out(self, child: Child, at_work: AtWork) -> None:
        """Kill a worker, and count the attempt it was at; nobody else of its batch is to blame."""
        if at_work.attempt == 0:
            self._end_several(child, at_work)
            return
        log.error("event timed out id=%d after=%gs; its worker is replaced", at_work.event, at_work.seconds)
        handler = HANDLERS[at_work.handler]
        wait = None if at_work.attempt >= handler.max_attempts else backoff(at_work.attempt)
        names = {
            "id": at_work.event,
            "attempt": at_work.attempt,
            "lease": at_work.lease or None,
            "counted": True,
            "error": f"Timeout: its handler took more than {at_work.seconds:g} s",
            "error_class": "Timeout",
            "wait": wait,
            "yields": None if handler.skip_after is None else timedelta(seconds=handler.skip_after),
            "worker": child.name,
            "seconds": at_work.seconds,
            "handler": handler.name,
            "handler_version": handler.version,
        }
        try:
            with self.connect() as conn:
                _abandon(conn, child.page.before(), at_work.run_id)
                os.kill(child.pid, signal.SIGKILL)
                # A statement goes on without its client, and keeps its locks.
                conn.execute("SELECT pg_terminate_backend(%s)", [at_work.backend])
                with conn.transaction():
                    conn.execute("SET LOCAL lock_timeout = '2s'")
                    counted = conn.execute(load("mark_failed"), names).rowcount
                conn.execute(load("abandon_leases"), {"lease": child.page.held()})
            if counted:
                due = f" due_in={wait.total_seconds():.0f}s" if wait else ""
                words = "failed" if wait else "dead"
                log.warning("event %s id=%d attempt=%d%s cause=Timeout", words, at_work.event, at_work.attempt, due)
        except psycopg.Error as error:
            log.warning("attempt not counted id=%d cause=%s", at_work.event, describe(error))
            os.kill(child.pid, signal.SIGKILL)
        child.killed = True

    def _end_several(self, child: Child, at_work: AtWork) -> None:
        """Kill a worker whose batch handler is late: each event of its run is suspect then, and runs alone next."""
        log.error("events timed out first=%d after=%gs; its worker is replaced", at_work.event, at_work.seconds)
        os.kill(child.pid, signal.SIGKILL)
        child.killed = True
        try:
            with self.connect() as conn:
                _abandon(conn, child.page.before())
                conn.execute("SELECT pg_terminate_backend(%s)", [at_work.backend])
        except psycopg.Error as error:
            log.warning("a late statement goes on first=%d cause=%s", at_work.event, describe(error))


def _abandon(conn: Connection, *runs: int) -> None:
    """Say that nobody of these runs is to blame. A run's handlers are over before the next one's begin."""
    for run_id in runs:
        conn.execute(load("abandon_run"), {"run_id": run_id})


def _work(make: Callable[[], Processor], page: Page, interval: float) -> int:
    """Be a worker, in its own process, and return its exit code."""
    try:
        worker = make()
        hear(lambda *_: worker.stopping.set())
        worker.page = page
        totals = worker.run(interval)
        log.info("worker stopped %s", " ".join(f"{name}={count}" for name, count in asdict(totals).items()))
    except psycopg.errors.InsufficientPrivilege as error:
        log.error("worker stopped cause=%s; see `processor db sql --grants`", describe(error))
        return BAD_CONFIGURATION
    except BaseException as error:  # noqa: BLE001 - whatever it is, it ends here and not in the supervisor's code
        log.error("worker failed cause=%s", describe(error))
        return 1
    return 0
