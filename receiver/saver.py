"""A task that brings what is gathered in memory to the database now and then: what no delivery is to wait for."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

import psycopg

log = logging.getLogger("receiver")

END = 2.0  # seconds for the last save, at shutdown


class Saver:
    """Calls *save* every so many seconds while *pending* says that there is something, and once more at the end.

    what: is saved, for the log. pending is told whether it is the last time. save raises psycopg.Error where the
    database does not take it, and has then kept everything.
    """

    def __init__(
        self, what: str, every: float, pending: Callable[[bool], bool], save: Callable[[], Awaitable[None]]
    ) -> None:
        self.what = what
        self.every = every
        self.pending = pending
        self.save = save
        self.stopping = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Save from now on, in the background."""
        self.task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Save what is left; a database that doesn't take it within END is given up."""
        self.stopping.set()
        if self.task is not None:
            done, _ = await asyncio.wait({self.task}, timeout=END)
            if not done:
                self.task.cancel()
                await asyncio.wait({self.task}, timeout=1)

    async def _run(self) -> None:
        lost = last = False
        while not last:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), self.every)
            last = self.stopping.is_set()  # asked before it saves: what comes meanwhile is saved by the next
            if not self.pending(last):
                continue
            try:
                await self.save()
            except psycopg.Error as error:
                if not lost:
                    log.warning("%s not saved cause=%s; kept in memory until they are", self.what, type(error).__name__)
                lost = True
            else:
                if lost:
                    log.warning("%s saved again", self.what)
                lost = False
