"""How the answer to a handler's statement is waited for: awake, where it is soon."""

import os
import select
import time
from typing import Any, cast

import psycopg
from psycopg import generators
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult

# Who has the only processor keeps the server from answering while he is awake.
NEIGHBOURS = (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1) > 1
# Seconds for an answer for which it isn't worth to sleep: to fall asleep and be woken costs both sides about as much.
SOON = 0.0002
SLOW = 100  # milliseconds for an answer, after which psycopg waits for it: it knows what to do where none comes


class Answers:
    """A connection's. soon: the last one was worth to stay awake for."""

    def __init__(self, own: psycopg.Connection[Any]) -> None:
        self.own = own
        self.soon = False
        self.poll = select.poll()
        self.poll.register(own.pgconn.socket, select.POLLIN)

    def results(self) -> list[PGresult]:
        """Return what was sent came to, as psycopg.generators.execute does, without a generator's steps for each.

        Raises psycopg.OperationalError.
        """
        results = list[PGresult]()
        try:
            while result := self._result():
                results.append(result)
        except psycopg.OperationalError:
            if not results or results[-1].status != ExecStatus.FATAL_ERROR:
                raise
            # Else the server has said why it ends the connection.
        return results

    def _result(self) -> PGresult | None:
        pgconn = self.own.pgconn
        if pgconn.flush():
            self.own.wait(generators.send(pgconn))
        while pgconn.is_busy():
            if not self._answered():
                return cast("PGresult | None", self.own.wait(generators.fetch(pgconn)))
            pgconn.consume_input()
        return pgconn.get_result()

    def _answered(self) -> bool:
        """Wait for an answer, but not for long; stay awake as long as the last one took, where that was soon."""
        if self.soon:
            until = time.monotonic() + SOON
            while time.monotonic() < until:
                if self.poll.poll(0):
                    return True
        since = time.monotonic()
        came = bool(self.poll.poll(SLOW))
        self.soon = NEIGHBOURS and time.monotonic() - since < SOON
        return came
