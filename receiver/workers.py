"""`receiver run --workers N`: N processes that accept on the same sockets, and the parent that keeps them.

Each worker is a whole receiver, with a pool and a slot of the spool of its own. The parent holds the sockets, so a
connection waits while a worker is replaced; else it only waits for signals, which are blocked and taken one by one.
"""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from receiver.app import create_app
from receiver.http import server
from receiver.http.listeners import Handover
from receiver.http.shared import ABSENT, SharedServer, Tally
from receiver.reload import on_hangup
from receiver.settings import BadSettings, Settings, sources_from
from sql.fork import fork, hear

log = logging.getLogger("receiver")

BAD_CONFIGURATION = 78  # a worker that ends with it would do so again: all end
RESTART, RESTART_MAX = 0.25, 10.0  # seconds until a worker that died is replaced; each time twice as many, at most
STEADY = 30.0  # seconds after which a worker's death has nothing to do with the one before
ACCEPTS = signal.SIGUSR1  # from a worker: it accepts
HANDED_OVER = signal.SIGUSR2  # to a worker: the next receiver accepts
TAKEN = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGALRM, ACCEPTS}


@dataclass
class Child:
    """A process of ours: number is the worker's, None that of the process that offers the sockets."""

    pid: int
    number: int | None
    started_at: float
    wait: float  # seconds until it is replaced, should it die soon


class Workers:
    """The parent. *heir*: by which it took the sockets over, and by which the next receiver may."""

    def __init__(
        self, settings: Settings, listeners: list[socket.socket], count: int, drain: float, heir: Handover | None
    ) -> None:
        self.pid = os.getpid()
        self.settings = settings
        self.listeners = listeners
        self.drain = drain
        self.heir = heir
        self.due: list[tuple[float, int | None, float]] = [(0.0, number, RESTART) for number in range(count)]
        self.children: list[Child] = []
        self.tally = Tally(count)
        self.offered = self.stopping = False
        self.signals = self.code = 0
        # From here on each waits until it is taken; a worker's are blocked when it begins.
        signal.pthread_sigmask(signal.SIG_BLOCK, {*TAKEN, HANDED_OVER})

    def run(self) -> int:
        """Keep the workers running until SIGTERM or SIGINT, or until the next receiver has taken over.

        Returns the exit code when all have ended: 0, or that of a worker whose configuration is bad.
        """
        gc.freeze()  # what is in memory by now stays shared with the workers
        while self.children or not self.stopping:
            self._start_due()
            taken = signal.sigwait(TAKEN)
            if taken in (signal.SIGTERM, signal.SIGINT):
                self.signals += 1
                if self.signals > 1:
                    self._end_all(signal.SIGKILL)
                    return 0
                self._end_all(signal.SIGTERM)
            elif taken == signal.SIGHUP:
                self._reload()
            elif taken == signal.SIGCHLD:
                self._collect()
            elif taken == ACCEPTS and self.heir and not self.offered:
                self.offered = True  # not before: whoever asked for the sockets would get those of nobody
                self.due.append((0.0, None, RESTART))
        return self.code

    def _start_due(self) -> None:
        """Start what is due, and have SIGALRM sent when the next is."""
        now = time.monotonic()
        starting = [one for one in self.due if one[0] <= now]
        self.due = [one for one in self.due if one[0] > now]
        for _, number, wait in starting:
            work = self._offer if number is None else partial(self._work, number)
            # SIGTERM, should we be killed: what is under way in a worker is answered.
            self.children.append(Child(fork(work, signal.SIGTERM), number, now, wait))
        if self.due:
            signal.setitimer(signal.ITIMER_REAL, max(min(self.due)[0] - time.monotonic(), 0.001))

    def _collect(self) -> None:
        """Take leave of the children that ended, and have each replaced, unless all are to end."""
        for child in list(self.children):
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid == 0:
                continue
            self.children.remove(child)
            if child.number is not None:
                self.tally.open[child.number] = ABSENT
            ended = os.waitstatus_to_exitcode(status)
            if self.stopping:
                continue
            if ended == BAD_CONFIGURATION:
                self.code = ended
                self._end_all(signal.SIGTERM)
            elif child.number is not None or ended < 0:
                self._replace(child, ended)
            elif ended == 0:
                self._end_all(HANDED_OVER)

    def _replace(self, child: Child, ended: int) -> None:
        wait = RESTART if time.monotonic() - child.started_at > STEADY else child.wait
        if ended == 0:  # somebody told it to end
            wait = 0.0
            log.warning("worker replaced pid=%d", child.pid)
        else:
            who = "handover" if child.number is None else "worker"
            how = f"signal {signal.Signals(-ended).name}" if ended < 0 else f"exit code {ended}"
            log.error("%s died pid=%d cause=%r restart_in=%gs", who, child.pid, how, wait)
        self.due.append((time.monotonic() + wait, child.number, min(max(2 * wait, RESTART), RESTART_MAX)))

    def _end_all(self, number: signal.Signals) -> None:
        """Let go of the sockets, and send each worker that signal; the last of them empties their queues."""
        self.stopping = True
        self.due.clear()
        for listener in self.listeners:
            listener.close()
        for child in self.children:
            os.kill(child.pid, number if child.number is not None else signal.SIGKILL)

    def _reload(self) -> None:
        """Read the sources again, for workers to come, and have each worker do so, which says what is wrong."""
        with suppress(BadSettings):
            self.settings = replace(self.settings, sources=sources_from(os.environ))
        for child in self.children:
            if child.number is not None:
                os.kill(child.pid, signal.SIGHUP)

    def _work(self, number: int) -> int:
        """Be a worker, in its own process, and return its exit code."""
        metrics = self.settings.metrics_at and (self.settings.metrics_at[0], self.settings.metrics_at[1] + number)
        settings = replace(self.settings, metrics_at=metrics)
        try:
            app = create_app(settings, receipt_deadline=None)  # the server has its own
            on_hangup(app.state.door)
            hear(lambda *_: sys.exit(0))  # until it serves
            signal.pthread_sigmask(signal.SIG_UNBLOCK, TAKEN)
            serving = SharedServer(app, self.listeners, self.tally, number)
            server.run(serving, self.drain, Part(self.pid, self.heir))
        except SystemExit:
            return 0
        except BadSettings as error:
            for fault in error.faults:
                log.error("worker not started fault=%s", fault)
            return BAD_CONFIGURATION
        except BaseException as error:  # whatever it is, it ends here and not in the parent's code
            log.error("worker failed cause=%s", type(error).__name__, exc_info=error)
            return 1
        return 0

    def _offer(self) -> int:
        """Be the process that offers the sockets to the next receiver; return 0 when that has taken over."""
        hear(signal.SIG_DFL)
        taken = list[bool]()
        if self.heir:
            asyncio.run(self.heir.offer(self.listeners, lambda: taken.append(True)))
        return 0 if taken else 1


class Part(Handover):
    """A worker's part in a handover: it says that it accepts; its parent offers the sockets, and says when it is over.

    *heir*: of the parent, by which the sockets came.
    """

    def __init__(self, parent: int, heir: Handover | None) -> None:
        super().__init__("")
        self.parent = parent
        self.before = heir.before if heir else None

    def taken(self) -> None:
        """Tell the receiver before us, and the parent, that we accept."""
        super().taken()
        if os.getppid() == self.parent:
            os.kill(self.parent, ACCEPTS)

    async def offer(self, listeners: list[socket.socket], stop: Callable[[], None]) -> None:  # noqa: ARG002
        """Call *stop* when the parent says that the next receiver has taken over."""
        asyncio.get_running_loop().add_signal_handler(HANDED_OVER, stop)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {HANDED_OVER})
