"""The wait between two claims, and what ends it early: being told of events, an event that becomes due, the end.

Nothing rests on being told: what nobody told of is found when the interval is over. But a connection can go deaf
without a sign, and then every event would wait that long; so who hears nothing for a while tells itself something,
by its other connection.
"""

import logging
import math
import select
import threading
import time

import psycopg
from psycopg import Connection
from psycopg.pq import PGnotify

from processor.failure import describe
from processor.session import Session
from sql import load

log = logging.getLogger("processor")

SLICE = 0.2  # seconds between two looks at *stopping*, whose setting wakes nobody who waits for a socket
SHORTEST = 0.01  # seconds that a wait for a due event takes at least
SILENCE = 10.0  # seconds without hearing anything, after which a probe is sent
PATIENCE = 10.0  # seconds that a probe may take
RETRY = 60.0  # seconds until a connection is to listen again where the last one never heard anything
PROBE = "probe"


class Wakeup:
    """How a worker waits. It listens on its session's control connection, which is never long in a transaction.

    listen: False where nothing can be heard, behind a pooler; then it only polls.
    """

    def __init__(self, *, listen: bool = True) -> None:
        self.listen = listen
        self.control: Connection | None = None  # the last that was to listen
        self.listening = False
        self.woken = False  # told of events since the last wait
        self.told = False  # it was that which ended the last wait
        self.heard_at = self.probed_at = self.retry_at = -math.inf
        self.lost = False  # said that nothing is heard

    def wait(self, session: Session, seconds: float, stopping: threading.Event) -> bool:
        """Return when an event may be due, after *seconds* at the latest, or soon after *stopping* is set.

        False: *session* lost a connection or hears nothing, and is to be replaced.
        """
        self.told = False
        try:
            if self._begins_to_listen(session):
                return True  # what came before is not told: the next claim finds it
            if session.control is None:
                stopping.wait(seconds)
                return True
            seconds = min(seconds, max(_next_due(session.control), SHORTEST))
            if not self.listening:
                stopping.wait(seconds)
                return True
            until = time.monotonic() + seconds
            while not stopping.is_set() and (left := until - time.monotonic()) > 0:
                self._hear(session.control, min(left, SLICE))
                if self.woken:
                    break
                if self._deaf(session.conn):
                    self._give_up("a probe was not heard; behind a pooler, say --no-listen", disconnected=False)
                    return False
            self.told, self.woken = self.woken, False
        except psycopg.Error as error:
            self._give_up(describe(error), disconnected=isinstance(error, psycopg.OperationalError))
            return False
        return True

    def _begins_to_listen(self, session: Session) -> bool:
        """Have a new session listen, if it may; return whether it began just now."""
        control = session.control
        if not self.listen or control is None or control is self.control or time.monotonic() < self.retry_at:
            return False
        self.control, self.listening = control, False
        (backend,) = control.execute("SELECT pg_backend_pid()").fetchone() or (0,)
        if backend != control.info.backend_pid:
            # A pooler gives numbers of its own to its clients. One that shares connections by transaction would take
            # the LISTEN, and hand what is heard to whoever has that connection next.
            self.listen = False
            log.warning("wake-up off: a pooler stands before the database; polling only")
            return False
        self.listening, self.heard_at, self.probed_at = True, -math.inf, -math.inf
        # In place of psycopg's, which keeps each notification until it is asked for: a busy worker never asks.
        control.pgconn.notify_handler = self._told
        control.execute(load("listen"))
        return True

    def _hear(self, control: Connection, seconds: float) -> None:
        """Take in what is told, at once or within *seconds*."""
        # First what has been read already: it may have come in one packet with an answer.
        self._take_in(control)
        poller = select.poll()
        poller.register(control, select.POLLIN)
        if not self.woken and poller.poll(seconds * 1000):
            control.pgconn.consume_input()
            self._take_in(control)

    def _take_in(self, control: Connection) -> None:
        while notification := control.pgconn.notifies():
            self._told(notification)

    def _told(self, notification: PGnotify) -> None:
        self.heard_at = time.monotonic()
        self.woken = self.woken or notification.extra != PROBE.encode()
        if self.lost:
            log.warning("wake-up recovered")
            self.lost = False

    def _deaf(self, conn: Connection) -> bool:
        """Tell whether a probe has had its time; after a silence, send one.

        It goes by another connection than it is heard on: a server tells its own connection what that itself said
        even where nothing else comes through. Anybody's probe proves it, so of many workers only one sends any.
        """
        now = time.monotonic()
        if self.probed_at > self.heard_at:
            return now - self.probed_at > PATIENCE
        if now - self.heard_at > SILENCE:
            with conn.transaction():
                conn.execute(load("notify"), {"payload": PROBE})
            self.probed_at = now
        return False

    def _give_up(self, cause: str, *, disconnected: bool) -> None:
        if self.listening:
            # Where something was heard before, the next connection hears, too.
            hopeless = self.heard_at == -math.inf and not disconnected
            self.retry_at = time.monotonic() + RETRY if hopeless else -math.inf
            if not self.lost:
                log.warning("wake-up lost cause=%s; polling", cause)
            self.lost = True
        self.listening = False


def _next_due(conn: Connection) -> float:
    """Return the seconds until an event's time comes, inf where none waits for its time."""
    (seconds,) = conn.execute(load("next_due")).fetchone() or (math.inf,)
    return float(seconds)
