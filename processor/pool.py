"""Threads that run the outside handlers of leased events, and nothing else: no connection, no row."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

from psycopg import Connection

from processor.event import Discard, Event, RetryLater
from processor.registry import Handler


class Timeout(Exception):
    """A handler took more than its time."""


@dataclass(eq=False)
class Run:
    """One leased event's outside handlers: before, while and after a thread runs them.

    started_at: monotonic; None: not begun. seconds: None: not ended. ran: the last of which failed, if error is set.
    writes: what handlers returned to be called with the connection on which processed_at is set.
    """

    event: Event
    handlers: list[Handler]
    timeout: float
    started_at: float | None = None
    seconds: float | None = None
    error: BaseException | None = None
    ran: list[Handler] = field(default_factory=list)
    writes: list[tuple[Handler, Callable[[Connection], Any]]] = field(default_factory=list)

    def run(self) -> None:
        """Call the handlers, until one raises."""
        self.started_at = time.monotonic()
        try:
            for handler in self.handlers:
                self.ran.append(handler)
                answer = handler.function(self.event)
                if isinstance(answer, RetryLater | Discard):
                    raise answer  # noqa: TRY301 - returned where it should be raised: meant all the same
                if callable(answer):
                    self.writes.append((handler, answer))
        except BaseException as error:  # noqa: BLE001 - sys.exit in a handler, too, is its event's outcome
            self.error = error
        self.seconds = time.monotonic() - self.started_at

    @property
    def late(self) -> bool:
        """Tell whether it has had its time."""
        return self.started_at is not None and time.monotonic() > self.started_at + self.timeout

    def time_out(self) -> "Run":
        """Return the failed run that this one counts as, whatever its thread comes to."""
        error = Timeout(f"its handlers took more than {self.timeout:g} s")
        return Run(self.event, self.handlers, self.timeout, self.started_at, self.timeout, error, self.ran[:])


class Pool:
    """So many threads. They are daemons: one that hangs doesn't keep its process from ending."""

    def __init__(self, threads: int) -> None:
        self._todo: SimpleQueue[Run] = SimpleQueue()
        self._done: SimpleQueue[Run] = SimpleQueue()
        for _ in range(threads):
            self.add_thread()

    def add_thread(self) -> None:
        """Start a thread: one of the first, or in the place of one that hangs."""
        threading.Thread(target=self._work, name="outside handlers", daemon=True).start()

    def submit(self, run: Run) -> None:
        """Have a thread run it."""
        self._todo.put(run)

    def ended(self, seconds: float) -> list[Run]:
        """Return the runs that ended since the last call; wait so long for the first."""
        runs = _all(self._done)
        if not runs and seconds > 0:
            try:
                runs = [self._done.get(timeout=seconds), *_all(self._done)]
            except Empty:
                return []
        return runs

    def take_back(self) -> list[Run]:
        """Return the runs that no thread has begun; none will."""
        return _all(self._todo)

    def _work(self) -> None:
        while True:
            run = self._todo.get()
            run.run()
            self._done.put(run)


def _all(queue: SimpleQueue[Run]) -> list[Run]:
    runs = []
    while True:
        try:
            runs.append(queue.get_nowait())
        except Empty:
            return runs
