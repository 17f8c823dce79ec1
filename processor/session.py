"""A worker's way to the database, and how it says there what it is about to run."""

import os
import socket
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import cached_property

import psycopg
from psycopg import ClientCursor, Connection, IsolationLevel, generators
from psycopg.pq import TransactionStatus
from psycopg.pq.abc import PGresult

from processor.arrays import array
from processor.handed import Handed
from sql import load
from sql.connection import done

PREPARED_AFTER = 5  # times that handlers have sent a statement: psycopg's own measure


def worker_name(pid: int | None = None) -> str:
    """Return what a worker is called in the database, ``host:pid``; without *pid* this process."""
    return f"{socket.gethostname()}:{pid or os.getpid()}"


def settings(idle: float) -> bytes:
    """Return SQL that has the server end the transaction in hand when its worker is gone without a word.

    idle: seconds that a handler may leave the connection alone, 0: any. Without it a query that a dead worker left
    behind goes on and keeps its event locked, and a machine that vanished keeps it for hours. All of it ends with the
    transaction: a pooler's next client is given nothing of it.
    """
    values = {
        "idle_in_transaction_session_timeout": f"{idle:.0f}s",
        "client_connection_check_interval": "1s",
        "tcp_keepalives_idle": "10",
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "3",
    }
    return "; ".join(f"SET LOCAL {name} = '{value}'" for name, value in values.items()).encode()


@dataclass(frozen=True)
class Session:
    """A worker's way to the database, until one of its connections is lost.

    conn: for the batch's transaction. control: to say, committed, what is about to run while that is open;
    None: crashes are not accounted for.
    """

    conn: Connection
    control: Connection | None

    @classmethod
    def open(cls, connect: Callable[[], Connection]) -> "Session":
        """Connect twice. Raises psycopg.Error, also on a standby, and then leaves nothing open."""
        with ExitStack() as opened:
            conn = opened.enter_context(closing(_connect(connect)))
            session = cls(conn, opened.enter_context(closing(connect())))
            opened.pop_all()
        return session

    def second(self, connect: Callable[[], Connection]) -> "Session":
        """Connect once more, for another transaction beside this one's; control is shared. Raises as open."""
        return Session(_connect(connect), self.control)

    @cached_property
    def handed(self) -> Handed:
        """What handlers are given of conn."""
        return Handed(self.conn)

    def meet(self, backend: int) -> None:
        """Learn which process of the server this is: ours alone, unless a pooler gives its clients other numbers."""
        if self.control and backend == self.conn.info.backend_pid:
            self.handed.prepares = self.handed.prepare_threshold = PREPARED_AFTER

    def close(self) -> None:
        """Close both connections; what they had not committed is rolled back."""
        self.conn.close()
        if self.control:
            self.control.close()

    def begin(self, run_id: int, ids: list[int]) -> None:
        """Have it committed that these events are about to run; begun() waits for that."""
        if self.control:
            names = {"run_id": run_id, "worker": worker_name(), "ids": array(ids)}
            self.control.pgconn.send_query(ClientCursor(self.control).mogrify(load("begin_run"), names).encode())

    def begun(self) -> None:
        """Wait until it is. Raises psycopg.Error."""
        if self.control:
            self.control.wait(done(self.control.pgconn))

    def send(self, statements: bytes) -> None:
        """Send SQL on conn, and don't wait for what comes of it. Raises psycopg.Error."""
        self.conn.pgconn.send_query(statements)
        if self.conn.pgconn.flush():  # more than the socket takes at once: what stays here would be under way to nobody
            self.conn.wait(generators.send(self.conn.pgconn))

    def answered(self) -> list[PGresult]:
        """Wait until what was sent is done; return what its statements came to, the last of which may have failed.

        Raises psycopg.Error when the connection did.
        """
        return self.conn.wait(generators.execute(self.conn.pgconn))

    def roll_back(self) -> None:
        """End the batch's transaction without effect, if there still is one."""
        if not self.conn.closed and self.conn.info.transaction_status is not TransactionStatus.IDLE:
            self.conn.execute("ROLLBACK")

    def give_up(self, run_id: int) -> None:
        """Say that the run ended without anybody's death, before its transaction is rolled back."""
        if self.control and not self.control.closed:
            with suppress(psycopg.Error):  # then it is settled as if we had died
                self.control.execute(load("abandon_run"), {"run_id": run_id})


def _connect(connect: Callable[[], Connection]) -> Connection:
    """Connect for batches' transactions."""
    conn = connect()
    if conn.info.parameter_status("in_hot_standby") == "on":
        conn.close()
        raise psycopg.OperationalError("the server is a standby; point DATABASE_URL at the primary as well")
    # The claim's later statements must see what was committed since its first.
    conn.isolation_level = IsolationLevel.READ_COMMITTED
    conn.prepare_threshold = None  # names of what handlers have prepared are handed's to give
    return conn
