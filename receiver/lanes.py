"""What waits for the database, and the lanes on which it goes there: what comes during one batch goes with the next.

Who comes alone waits for nobody. A lane is a connection for as long as something waits. There is one, until its batch
is late, for a lock, a slow standby or disk: then what waits is spread over as many others as there may be, and none of
it waits for the late one. What goes by one lane is stored in the order of arrival; beside one that is late there is no
order, as there is none between connections.

It knows nothing of what is sent. One timer holds everybody's deadline.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from psycopg_pool import PoolTimeout

from receiver.batch import ROWS_MAX, Row
from receiver.insert import Saved
from sql.connection import AsyncConnection

LATE = 0.05  # seconds after which nobody waits for a batch
LOST = 1.0  # seconds after which a late one no longer keeps the others from sharing
TICK = 0.001  # seconds that a timer may be early


@dataclass(eq=False, slots=True)
class Waiting:
    """A delivery's rows. saved: what became of each, None while that isn't known; done: the answer's, over at *until*.

    alone: nothing shares a statement with it. tried: it may have been committed already, and nobody knows.
    """

    rows: Sequence[Row]
    until: float
    done: asyncio.Future[list[Saved]]
    saved: list[Saved | None]
    alone: bool = False
    tried: bool = False

    def settle(self) -> None:
        """Answer it, when it is known of each row what became of it."""
        known = [one for one in self.saved if one is not None]
        if not self.done.done() and len(known) == len(self.saved):
            self.done.set_result(known)

    def fail(self, error: Exception) -> None:
        """Answer it with *error*, unless it has been answered."""
        if not self.done.done():
            self.done.set_exception(error)


class Lane:
    """A task that sends. since: when the batch that it has under way was sent, None while it waits for a connection."""

    __slots__ = ("since", "task")

    def __init__(self) -> None:
        self.since: float | None = None
        self.task: asyncio.Task[None] | None = None


class Lanes:
    """At most *number* lanes. connect: lends a connection; send: has the batch's rows committed, never raises.

    Of what it couldn't have committed, send gives back what is to be tried once more.
    """

    def __init__(
        self,
        number: int,
        waiting_max: int,
        connect: Callable[[], AbstractAsyncContextManager[AsyncConnection]],
        send: Callable[[AsyncConnection, list[Waiting]], Awaitable[list[Waiting]]],
    ) -> None:
        self.number = number
        self.waiting_max = waiting_max
        self.connect = connect
        self.send = send
        self.waiting: set[Waiting] = set()  # whose answer is due
        self.queue: deque[Waiting] = deque()  # of these and of what was given up, those that no lane has taken
        self.lanes: set[Lane] = set()
        self.alarm: asyncio.TimerHandle | None = None
        self.alarm_at = math.inf
        self.closed = False

    async def put(self, rows: Sequence[Row], until: float) -> list[Saved]:
        """Return what became of the rows. Raises what it failed with, TimeoutError at *until*, QueueFull."""
        if len(self.waiting) >= self.waiting_max:
            raise asyncio.QueueFull
        one = Waiting(rows, until, asyncio.get_running_loop().create_future(), [None] * len(rows))
        self.waiting.add(one)
        self.queue.append(one)
        if until < self.alarm_at:
            self._wake_at(until)
        self._go()
        try:
            return await one.done
        finally:
            self.waiting.discard(one)

    async def close(self) -> None:
        """Give up what is under way, which takes no time."""
        self.closed = True
        if self.alarm:
            self.alarm.cancel()
        tasks = [lane.task for lane in self.lanes if lane.task]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1)
        for one in self.waiting:
            one.fail(TimeoutError())

    def _go(self) -> None:
        """Open a lane, unless one is about to take what waits."""
        if not self.queue or self.closed or len(self.lanes) >= self.number:
            return
        ages = self._ages()
        if None in ages or (any(age < LATE for age in ages if age is not None) and not self._any_late()):
            return
        lane = Lane()
        self.lanes.add(lane)
        lane.task = asyncio.get_running_loop().create_task(self._run(lane))

    async def _run(self, lane: Lane) -> None:
        """Send what waits, a batch at a time, until nothing does."""
        loop = asyncio.get_running_loop()
        try:
            async with self.connect() as conn:
                while not conn.closed and (batch := self._take()):
                    lane.since = time.monotonic()
                    lost_before = batch[0].tried  # by itself, then: whatever cuts it off holds up nobody behind it
                    late = loop.call_later(LATE + TICK, self._go)
                    if self.queue:
                        self._go()  # what is spread goes at once
                    again = await self.send(conn, batch)
                    late.cancel()
                    lane.since = None
                    if lost_before:
                        self.queue.extend(again)
                    else:
                        self.queue.extendleft(reversed(again))
        except PoolTimeout as error:
            # Whoever has waited for as long as the pool does. The others came later, and another lane waits on.
            if self.queue:
                self.queue.popleft().fail(error)
        finally:
            self.lanes.discard(lane)
            self._go()

    def _take(self) -> list[Waiting]:
        """Take the next batch from the queue, leaving out who has been answered meanwhile."""
        most = ROWS_MAX
        if self._any_late():
            free = self.number - sum(lane.since is not None for lane in self.lanes)
            most = math.ceil(sum(len(one.rows) for one in self.queue) / max(free, 1))
        batch: list[Waiting] = []
        rows = 0
        while self.queue:
            one = self.queue[0]
            if one.done.done():
                self.queue.popleft()
                continue
            rows += len(one.rows)
            if batch and (one.alone or rows > most):
                break
            batch.append(self.queue.popleft())
            if one.alone:
                break
        return batch

    def _ages(self) -> list[float | None]:
        now = time.monotonic()
        return [None if lane.since is None else now - lane.since for lane in self.lanes]

    def _any_late(self) -> bool:
        return any(age is not None and LATE <= age < LOST for age in self._ages())

    def _wake_at(self, until: float) -> None:
        if self.alarm:
            self.alarm.cancel()
        self.alarm_at = until
        self.alarm = asyncio.get_running_loop().call_later(until - time.monotonic(), self._expire)

    def _expire(self) -> None:
        """Answer everybody whose deadline it is; what was sent stays under way."""
        now = time.monotonic() + TICK
        self.alarm, self.alarm_at = None, math.inf
        while self.queue and self.queue[0].until <= now:
            self.queue.popleft()
        for one in self.waiting:
            if one.until <= now:
                one.fail(TimeoutError())
        if left := [one.until for one in self.waiting if not one.done.done()]:
            self._wake_at(min(left))
