"""The server of one of several processes that accept on the same sockets, and share what comes there evenly.

The kernel wakes them all, and whoever is first takes what waits: of connections that are kept, one process would get
nearly all, for good. So one that has more than another lets the others go first, for a moment.
"""

import asyncio
import mmap
import socket

from starlette.applications import Starlette

from receiver.http.server import Server

GIVE_WAY = 0.002  # seconds for the others to accept what one lets them; after that it does
AHEAD = 1  # connections more than another process has, with which one accepts at once all the same
ABSENT = -1
INT = 4  # bytes


class Tally:
    """How many connections each process has open, ABSENT for one that does not accept. To be made before the fork."""

    def __init__(self, processes: int) -> None:
        self.open = memoryview(mmap.mmap(-1, INT * processes)).cast("i")
        for number in range(processes):
            self.open[number] = ABSENT

    def least(self) -> int:
        """Return how many the one has that has fewest."""
        return min((count for count in self.open if count != ABSENT), default=0)


class SharedServer(Server):
    """As Server, in the process of that *number*, counted from 0."""

    at_once = 1

    def __init__(self, app: Starlette, listeners: list[socket.socket], tally: Tally, number: int) -> None:
        super().__init__(app, listeners)
        self.tally = tally
        self.number = number
        self.gave_way = False

    def stop(self, drain: float) -> None:
        """As Server."""
        super().stop(drain)
        self._tell_others()

    def _accept(self, listener: socket.socket) -> None:
        self.gave_way = not self.gave_way and len(self.open) > self.tally.least() + AHEAD
        if self.gave_way:
            self._pause()
            asyncio.get_running_loop().call_later(GIVE_WAY, self._resume)
        else:
            super()._accept(listener)
            self._tell_others()

    def _resume(self) -> None:
        super()._resume()
        self._tell_others()

    def _tell_others(self) -> None:
        self.tally.open[self.number] = ABSENT if self.stopping.is_set() else len(self.open)
