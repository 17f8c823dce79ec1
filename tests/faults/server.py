"""A PostgreSQL of a run's own, that is stopped, frozen and killed; to be used on the main thread."""

import os
import random
import signal
from contextlib import suppress
from pathlib import Path

import psycopg

from benchmarks.torture_rig import children
from processor import migrations, postgres
from tests.faults import checker

# Below those that a system gives to outgoing connections: one of the sender's may not sit there at the return.
PORTS = range(15_000, 32_000)


def stable_port() -> int:
    """Return a port that stays free while nobody listens on it."""
    return postgres.free_port(random.sample(PORTS, 100))


class Server:
    """A server whose data lie in *directory*, with our schema and a table of effects, until close().

    Raises processor.postgres.Unavailable.
    """

    def __init__(self, directory: Path) -> None:
        self.data = directory / "data"
        self.port = stable_port()
        self.start()
        self.dsn = self.server.dsn
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            migrations.migrate(conn)
            conn.execute(checker.TABLES)

    def start(self) -> None:
        """Start it, after a crash too, where it listened before; return once it answers."""
        self.server = postgres.start(self.data, port=self.port)

    def stop(self, number: signal.Signals = signal.SIGQUIT) -> None:
        """Stop it: immediately, as by `pg_ctl -m immediate`, or by SIGINT fast; return once it has ended."""
        with suppress(ProcessLookupError):
            os.kill(self.server.pid, number)
        self.server.stop()

    def kill(self) -> None:
        """Kill -9 the server and all its backends."""
        self._signal(signal.SIGKILL)
        self.server.stop()

    def freeze(self) -> None:
        """Stop every process where it is: connections stay open, the kernel takes new ones, and nobody answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        self.thaw()
        self.server.stop()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.kill(self.server.pid, signal.SIGSTOP)  # so that it starts no more of them meanwhile
            else:
                os.kill(self.server.pid, number)
        backends = children(self.server.pid)
        for pid in [*backends, self.server.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
