"""What the torture run does evil to: a private PostgreSQL and the processors on it, each a process of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import psycopg

from processor import migrations, postgres
from processor.children import ended_with_us

ROOT = Path(__file__).parents[1]
RUN = ("run", "--interval", "0.1", "--handlers", "benchmarks.torture_handlers")
POLL = 0.05  # seconds


class Late(Exception):
    """The run's time is up."""


class Rig:
    """A database and its processors, until close(). Whatever waits raises Late once *seconds* have passed.

    To be made and used on the main thread, but for ask().
    """

    def __init__(self, directory: Path, seconds: float) -> None:
        self.until = time.monotonic() + seconds
        self.data = directory / "data"
        self.log = (directory / "processors.log").open("ab")
        self.server = postgres.start(self.data)
        self.environ = {
            **os.environ, "DATABASE_URL": self.server.dsn, "LOG_LEVEL": "WARNING", "TORTURE_DIR": str(directory),
        }  # fmt: skip
        with psycopg.connect(self.server.dsn, autocommit=True) as conn:
            migrations.migrate(conn)
        self.processors: list[subprocess.Popen[bytes]] = []

    def start(self, processors: int, workers: int) -> None:
        """Start the processors."""
        self.arguments = (sys.executable, "-m", "processor", *RUN, "--workers", str(workers))
        self.processors = [self._processor() for _ in range(processors)]

    def _processor(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.arguments, env=self.environ, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=self.log, **ended_with_us(signal.SIGKILL),
        )  # fmt: skip

    def kill_worker(self, chance: Random) -> None:
        """Kill -9 one of the workers, and no supervisor."""
        while True:
            workers = [pid for processor in self.processors for pid in children(processor.pid)]
            with suppress(ProcessLookupError):  # poison was faster
                if workers:
                    os.kill(chance.choice(workers), signal.SIGKILL)
                    return
            self.wait()

    def kill_processor(self, chance: Random) -> None:
        """Kill -9 a supervisor, with which its workers die, and start another in its place."""
        place = chance.randrange(len(self.processors))
        self.processors[place].kill()
        self.processors[place].wait()
        self.processors[place] = self._processor()

    def restart_database(self, number: signal.Signals) -> None:
        """Stop PostgreSQL by SIGINT (fast: what is open is rolled back) or SIGQUIT (immediate: a crash); start it."""
        os.kill(self.server.pid, number)
        self.server.stop()
        dsn = self.server.dsn
        self.server = postgres.start(self.data, port=int(psycopg.conninfo.conninfo_to_dict(dsn)["port"] or 0))

    def ask(self, statement: str, names: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Execute and commit, once or, where the answer was lost, more often; wait for a database that is away."""
        while True:
            try:
                with psycopg.connect(self.server.dsn, autocommit=True) as conn:
                    cursor = conn.execute(statement.encode(), names)
                    return cursor.fetchall() if cursor.description else []
            except psycopg.OperationalError:
                self.wait()

    def number(self, statement: str, names: Mapping[str, Any] | None = None) -> int:
        """Return the one number that a query has for an answer."""
        return int(self.ask(statement, names)[0][0])

    def wait(self) -> None:
        """Sleep a moment. Raises Late when the time is up."""
        if time.monotonic() > self.until:
            raise Late
        time.sleep(POLL)

    def stop_processors(self) -> list[int]:
        """Stop them by SIGTERM, who does not obey by SIGKILL; return the exit codes."""
        for processor in self.processors:
            processor.terminate()
        codes = []
        for processor in self.processors:
            try:
                codes.append(processor.wait(20))
            except subprocess.TimeoutExpired:
                processor.kill()
                codes.append(processor.wait())
        self.processors = []
        return codes

    def close(self) -> None:
        """Stop everything."""
        self.stop_processors()
        self.server.stop()
        self.log.close()


def children(pid: int) -> list[int]:
    """Return the processes whose parent is *pid*, none where that is gone; Linux only."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
