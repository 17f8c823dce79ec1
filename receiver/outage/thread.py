"""The spool on a thread of its own, so that the event loop never waits for a disk.

What arrives while one commit runs shares the next: one fsync for all of them.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from receiver.outage.record import Row
from receiver.outage.spool import Failed, Spool

P = ParamSpec("P")
T = TypeVar("T")

WAITING_MAX = 1000  # appends that may wait for the disk; more fail at once

Entries = Sequence[tuple[float, Row, bool]]


class SpoolThread:
    """Calls a spool from the event loop, one call at a time."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.executor = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self.waiting: deque[tuple[Entries, Future[None]]] = deque()
        self.taking = False  # what no longer waits, and is not counted by the spool yet

    @property
    def empty(self) -> bool:
        """Tell whether nothing waits, nor is about to."""
        # In the order in which a delivery goes from one to the next, on the other thread.
        return not self.waiting and not self.taking and not self.spool.deliveries

    async def append(self, entries: Entries, deadline: float) -> None:
        """Have them on the disk, all or none. Raises Failed.

        After *deadline* seconds they may be there yet if they are being written.
        """
        if len(self.waiting) >= WAITING_MAX:
            raise Failed(f"the spool's disk is too slow: {WAITING_MAX} deliveries wait for it")
        appended: Future[None] = Future()
        self.waiting.append((entries, appended))
        if len(self.waiting) == 1:  # else a call is on its way; one for each would put whoever drains behind them all
            self.executor.submit(self._append_waiting)
        done, _ = await asyncio.wait({asyncio.wrap_future(appended)}, timeout=deadline)
        if not done:
            appended.cancel()  # if it still waits: nobody is told that it is kept, and it may be stored another way
            raise Failed(f"the spool's disk did not answer within {deadline:.2g} s")
        done.pop().result()

    async def call(self, method: Callable[P, T], *arguments: P.args, **names: P.kwargs) -> T:
        """Call a method of the spool, and return or raise what it does."""
        return await asyncio.wrap_future(self.executor.submit(method, *arguments, **names))

    async def close(self) -> None:
        """Close the spool after all that was asked of it."""
        await self.call(self.spool.close)
        self.executor.shutdown(wait=False)

    def _append_waiting(self) -> None:
        """Append what waits by now in one commit."""
        self.taking = True
        try:
            self._append_taken()
        finally:
            self.taking = False

    def _append_taken(self) -> None:
        taken = []
        while self.waiting:  # until it is empty: for who came second, nobody calls again
            entries, appended = self.waiting.popleft()
            if appended.set_running_or_notify_cancel():
                taken.append((entries, appended))
        if not taken:
            return
        try:
            self.spool.append([entry for entries, _ in taken for entry in entries])
        except Exception as error:  # noqa: BLE001 - told to those who wait
            failure = error if isinstance(error, Failed) else Failed(f"the spool failed ({type(error).__name__})")
            for _, appended in taken:
                appended.set_exception(failure)
        else:
            for _, appended in taken:
                appended.set_result(None)
