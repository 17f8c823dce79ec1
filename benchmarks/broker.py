"""Celery's broker: a private Redis."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import serving
from benchmarks.rounds import need
from processor import postgres


@contextmanager
def redis(directory: Path) -> Iterator[tuple[str, Any]]:
    """Yield URL and client of an empty Redis that writes each command to disk before it answers."""
    need("redis", programs=("redis-server",))
    from redis import ConnectionError as Away  # noqa: PLC0415 - only who measures it has it
    from redis import Redis  # noqa: PLC0415

    port = postgres.free_port([0])
    directory.mkdir(exist_ok=True)
    arguments = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--save", ""]
    arguments += ["--appendonly", "yes", "--appendfsync", "always"]
    client: Any = Redis(port=port)

    def up() -> bool:
        try:
            return bool(client.ping())
        except Away:
            return False

    log = directory / "log"
    with serving.running(arguments, {}, log, "redis-server") as broker:
        serving.wait_for(up, broker, log)
        client.flushall()
        yield f"redis://127.0.0.1:{port}/0", client
