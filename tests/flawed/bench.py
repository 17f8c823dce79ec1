"""One build under test: its database, its receiver, and the providers that call it."""

from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from psycopg import Connection

from receiver.conformance.probes import count_rows
from receiver.conformance.trial import Trial
from receiver.settings import Settings
from tests.http_receiver import Receiver
from tests.processes import wait_for
from tests.receiver_fixtures import BASE_URL


class Bench:
    """A build, as a context manager that starts and stops its receiver.

    conn: to the build's own database, which has a table of effects.
    """

    def __init__(self, dsn: str, conn: Connection, settings: Settings, directory: Path) -> None:
        self.dsn = dsn
        self.conn = conn
        self.settings = settings
        self.directory = directory
        self.sources = {source.name: source for source in settings.sources}
        self.running = Receiver(settings)
        self.twilio = self.trial("twilio")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.running.stop()

    def trial(self, source: str, running: Receiver | None = None) -> Trial:
        """Return a provider of the build's receiver, or of another that is running."""
        to = "http://{}:{}".format(*(running or self.running).address)
        others = [self.sources["agent"], self.sources["dialpad"]]
        return Trial(self.sources[source], BASE_URL, to, others=others, probe=self.count, sends=10)

    @contextmanager
    def impatient(self):
        """Yield a provider of another receiver of the build, which gives its database 0.3 s."""
        running = Receiver(self.settings, deadline=0.3)
        try:
            yield self.trial("twilio", running)
        finally:
            running.stop()

    def count(self, *delivery: Any) -> int:
        return count_rows(self.conn, *delivery)

    def is_stored(self, call: str) -> bool:
        found = self.conn.execute("SELECT 1 FROM webhook_events WHERE subject = %s", [f"call/{call}"])
        return found.fetchone() is not None

    def deliver(self, times: int) -> str:
        """Deliver a call's event so often, and return its subject once it is stored."""
        call = self.twilio.new_subject()
        delivery = self.twilio.signed(self.twilio.body("call.ringing", call))
        for _ in range(times):
            assert self.twilio.send(delivery).good
        wait_for(lambda: self.is_stored(call))
        return f"call/{call}"
