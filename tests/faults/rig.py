"""The inbox as it is run, on a database of its own: a receiver and a processor, each a process, and its providers."""

import asyncio
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from receiver.settings import Source, sources_from
from tests.faults.checker import TABLES, Verdict, check
from tests.faults.history import History
from tests.faults.sender import Sender
from tests.faults.servers import stable_port
from tests.faults.traffic import Load
from tests.http_receiver import toml
from tests.processes import Command, processor, receiver
from tests.receiver_fixtures import BASE_URL, SECRETS

HANDLERS = ("--interval", "0.5", "--handlers", "tests.faults.effect_handlers")
LAST_RETRY = 20.0  # seconds after the load's end: Dialpad's last comes after 14
STORED = "SELECT count(*) FROM webhook_events WHERE source || '/' || event_id = ANY (%s)"
WAITING = "SELECT count(*) FROM webhook_events WHERE processed_at IS NULL AND dead_at IS NULL"


class Late(Exception):
    """What was waited for did not come; the message says what."""


@dataclass
class Rig:
    """What runs. Files: history, receiver.log, processor.log."""

    directory: Path
    dsn: str
    port: int
    sources: tuple[Source, ...]
    receiver: Command
    processor: Command

    @contextmanager
    def load(self, load: Load) -> Iterator[Sender]:
        """Send *load* while the block runs, and until it is over. Raises what the sender raises."""
        with History(self.directory / "history") as history:
            sender = Sender(self.port, self.sources, history)
            failures: list[BaseException] = []

            def send() -> None:
                try:
                    asyncio.run(sender.run(plan, load.seconds + LAST_RETRY))
                except BaseException as error:  # noqa: BLE001 - raised below
                    failures.append(error)

            plan = load.plan()
            thread = threading.Thread(target=send)
            thread.start()
            yield sender
            thread.join()
            if failures:
                raise failures[0]

    def stored(self, keys: set[str]) -> bool:
        """Tell whether each of these events is in the table; no, where the database does not answer."""
        return self._count(STORED, [list(keys)]) == len(keys)

    def settle(self, sender: Sender, deadline: float) -> Verdict:
        """Wait until all that was acknowledged is stored and handled, or that long, and return the verdict."""
        until = time.monotonic() + deadline
        while time.monotonic() < until and not (self.stored(sender.acked) and self._count(WAITING) == 0):
            time.sleep(0.1)
        return check(self.directory / "history", self.dsn)

    def ready(self) -> dict[str, Any]:
        """Return what the receiver says of itself."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/readyz")
            return dict(json.loads(connection.getresponse().read()))
        finally:
            connection.close()

    def _count(self, query: str, values: list[Any] | None = None) -> int | None:
        try:
            with psycopg.connect(self.dsn, connect_timeout=2) as conn:
                return int((conn.execute(query.encode(), values).fetchone() or (0,))[0])
        except psycopg.OperationalError:
            return None


@contextmanager
def rig(directory: Path, dsn: str, *, spool: bool = True) -> Iterator[Rig]:
    """Start a receiver and a processor on *dsn*, with a table of effects; *directory*: logs, history and spool."""
    sources = directory / "sources.toml"
    tables = [
        {"name": name, "provider": "agent" if name == "standard" else name, "secrets": [f"env:{name.upper()}"]}
        for name in ("twilio", "vapi", "dialpad", "agent", "standard")
    ]
    sources.write_text(
        "\n".join("[[source]]\n" + "".join(f"{k} = {toml(v)}\n" for k, v in one.items()) for one in tables)
    )
    environ = {"BASE_URL": BASE_URL, "WEBHOOK_SOURCES": str(sources), "LOG_LEVEL": "WARNING", **SECRETS}
    environ["SPOOL_DIR"] = str(directory / "spool") if spool else "off"
    port = stable_port()
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(TABLES)
    with (
        (directory / "receiver.log").open("ab") as receivers,
        (directory / "processor.log").open("ab") as processors,
        receiver(dsn, port, stderr=receivers, **environ) as taking,
        processor(dsn, *HANDLERS, stderr=processors) as working,
    ):
        yield Rig(directory, dsn, port, sources_from(environ), taking, working)


def wait_until(true: Callable[[], bool], deadline: float, what: str) -> float:
    """Return after how many seconds it was so. Raises Late."""
    began = time.monotonic()
    while not true():
        if time.monotonic() - began > deadline:
            raise Late(f"expected {what} within {deadline:g} s")
        time.sleep(0.05)
    return time.monotonic() - began
