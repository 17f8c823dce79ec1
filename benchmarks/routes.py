"""The ways from a POST to an effect that latency.py compares: a door that stores, and a worker that is told of it.

Each is a process for either, as its users would run them; ours verifies the delivery, the others verify nothing.
"""

import hmac
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psycopg

from benchmarks import serving
from benchmarks.queues import HANDLERS, PEERS, need_node
from benchmarks.rounds import need
from benchmarks.server import url
from processor import migrations, postgres

SECRET = "a-secret-of-the-voice-agent-0123456789"  # noqa: S105 - of the receiver started here
Route = Callable[[str, Path], AbstractContextManager[int]]  # of a DSN and a log file; yields the door's port


def ours(options: Sequence[str]) -> Route:
    """Return our two commands. options: the processor's."""

    @contextmanager
    def run(dsn: str, log: Path) -> Iterator[int]:
        with psycopg.connect(dsn, autocommit=True) as conn:
            migrations.migrate(conn)
        environ = {"DATABASE_URL": dsn, "WEBHOOK_SECRET": SECRET, "LOG_LEVEL": "WARNING", "SPOOL_DIR": "off"}
        arguments = ["-m", "processor", "run", "--handlers", HANDLERS, *options]
        with serving.receiver(dsn, log, environ) as (port, _), serving.running(arguments, environ, log):
            yield port

    return run


def fastapi(door: str, worker: str, *modules: str) -> Route:
    """Return a door and a worker of benchmarks/peers, in Python."""

    @contextmanager
    def run(dsn: str, log: Path) -> Iterator[int]:
        need("uvicorn", "uvloop", "httptools", "fastapi", *modules)
        arguments = ["-m", f"benchmarks.peers.{worker}", "work"]
        environ = {"DATABASE_URL": url(dsn)}
        # The door makes the tables.
        with serving.uvicorn(door, log, {"DATABASE_URL": dsn}) as (port, _), serving.running(arguments, environ, log):
            yield port

    return run


@contextmanager
def graphile(dsn: str, log: Path) -> Iterator[int]:
    """Run Node's own HTTP server, and graphile-worker as it is set by default."""
    need_node("graphile-worker")
    port = postgres.free_port([0])
    environ = {"DATABASE_URL": url(dsn), "PORT": str(port), "NO_LOG_SUCCESS": "1"}
    with serving.running([str(PEERS / "graphile_door.js")], environ, log, "node") as door:
        serving.wait_for(lambda: serving.responds(port), door, log)
        with serving.running([str(PEERS / "graphile_jobs.js"), "listen"], environ, log, "node"):
            yield port


def headers(body: bytes) -> dict[str, str]:
    """Return the headers of our agent's delivery, which the others leave unread."""
    return {"X-Webhook-Signature": hmac.digest(SECRET.encode(), body, "sha256").hex()}


PATHS = {"ours": "/webhooks/agent"}
PATH = "/webhooks/twilio"  # the other doors'
PEER_ROUTES: dict[str, Route] = {
    "graphile-worker": graphile,
    "PgQueuer": fastapi("pgqueuer_door", "pgqueuer_jobs", "pgqueuer", "asyncpg"),
    "Procrastinate": fastapi("procrastinate_door", "procrastinate_jobs", "procrastinate"),
}
