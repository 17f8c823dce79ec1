"""PostgreSQL servers to be frozen, killed, restarted and promoted: of our own binaries, as processes of this one."""

import os
import random
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from processor import migrations, postgres, postgres_binaries
from processor.postgres_binaries import account
from tests.conftest import reachable_directory
from tests.processes import wait_for

# Below those that a system gives to outgoing connections: none of the senders' may sit there at a server's return.
PORTS = range(15_000, 32_000)
STANDBY = "standby"  # the name that the primary waits for


@dataclass
class Server:
    """A server with our tables, that lives through what is done to it; dsn: its own host and port, always the same."""

    directory: Path
    running: postgres.Server
    dsn: str

    @property
    def processes(self) -> list[int]:
        """Its process and those of its sessions, the former first."""
        return [self.running.pid, *children(self.running.pid)]

    def freeze(self) -> None:
        """Stop every process of it by SIGSTOP: its kernel still takes connections and acknowledges what is sent."""
        os.kill(self.running.pid, signal.SIGSTOP)  # first: it starts no others then
        for pid in children(self.running.pid):
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on, the process that starts sessions last."""
        for pid in reversed(self.processes):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kill -9 every process of it, as the loss of the machine would."""
        for pid in self.processes:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.running.stop()

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """Stop it, SIGINT: fast, SIGQUIT: immediately; may be called again."""
        with suppress(ProcessLookupError):
            os.kill(self.running.pid, how)
        self.running.stop()

    def start(self) -> None:
        """Start it at the same port, after a crash too; return once it answers."""
        port = int(str(conninfo_to_dict(self.dsn)["port"]))
        self.running = postgres.start(self.directory, port=port)

    def restart(self, how: signal.Signals) -> None:
        """Stop it so, and start it."""
        self.stop(how)
        self.start()

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            conn.execute(statement.encode())

    def configure(self, **values: str) -> None:
        """Set what a reload is enough for, and reload."""
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            for name, value in values.items():
                conn.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value)))
            conn.execute("SELECT pg_reload_conf()")


@contextmanager
def server(directory: Path) -> Iterator[Server]:
    """Run a server in *directory*, which PostgreSQL's user can reach; skip the test where there are no binaries."""
    try:
        running = postgres.start(directory, port=stable_port())
    except postgres.Unavailable as reason:
        pytest.skip(f"no PostgreSQL of our own: {reason}")
    one = Server(directory, running, running.dsn)
    try:
        with psycopg.connect(one.dsn, autocommit=True) as conn:
            migrations.migrate(conn)
        yield one
    finally:
        one.thaw()
        one.running.stop()


@dataclass
class Pair:
    """A primary, and its synchronous standby. dsn: of both, as an application has it."""

    primary: Server
    standby: Server
    dsn: str = field(init=False)

    def __post_init__(self) -> None:
        ports = [str(conninfo_to_dict(one.dsn)["port"]) for one in (self.primary, self.standby)]
        self.dsn = make_conninfo(self.primary.dsn, host="127.0.0.1,127.0.0.1", port=",".join(ports))

    def stall(self) -> None:
        """Have the standby receive nothing any more, though it looks connected."""
        os.kill(self._receiver(), signal.SIGSTOP)

    def unstall(self) -> None:
        os.kill(self._receiver(), signal.SIGCONT)

    def promote(self) -> None:
        """Make the standby the primary; returns once it takes writes. Nobody is its standby."""
        with psycopg.connect(self.standby.dsn, autocommit=True) as conn:
            conn.execute("SELECT pg_promote(wait => false)")
            wait_for(lambda: conn.execute("SELECT pg_is_in_recovery()").fetchone() == (False,))
        self.standby.configure(synchronous_standby_names="")

    def _receiver(self) -> int:
        for pid in children(self.standby.running.pid):
            if b"walreceiver" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        raise AssertionError("the standby receives nothing")


@contextmanager
def pair() -> Iterator[Pair]:
    """Run a primary with our tables and a standby that each of its commits waits for."""
    with ExitStack() as stack:
        directory = stack.enter_context(reachable_directory())
        primary = stack.enter_context(server(directory / "primary"))
        standby = _copy(primary, directory / "standby")
        stack.callback(standby.running.stop)
        stack.callback(standby.thaw)
        primary.configure(synchronous_standby_names=STANDBY)
        with psycopg.connect(primary.dsn, autocommit=True) as conn:
            synchronous = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
            wait_for(lambda: conn.execute(synchronous).fetchone() == (1,))
        yield Pair(primary, standby)


def _copy(primary: Server, directory: Path) -> Server:
    """Start a standby of *primary* on a base backup of it."""
    if user := account():
        directory.mkdir(0o700)
        os.chown(directory, user.pw_uid, user.pw_gid)
    backup = primary.running.psql.with_name("pg_basebackup")
    source = make_conninfo(primary.dsn, application_name=STANDBY)
    postgres_binaries.run(backup, "-D", directory, "-R", "-X", "stream", "-c", "fast", "-d", source)
    # What the supervisor keeps beside a data directory: the password is the primary's.
    directory.with_name(f"{directory.name}.dsn").write_text(make_conninfo(primary.dsn, port=stable_port()))
    running = postgres.start(directory)
    return Server(directory, running, running.dsn)


def stable_port() -> int:
    """Return a port that stays free while its server is away."""
    return postgres.free_port(random.sample(PORTS, 100))


def children(pid: int) -> list[int]:
    """Return the processes that *pid* has started, and that are left; none of one that is gone."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
