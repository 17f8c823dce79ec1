"""A link that goes down and tells nobody, between two network namespaces: neither side waits for the other for long."""

import http.client
import time
from contextlib import ExitStack, contextmanager

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from processor import migrations, postgres
from tests.conftest import reachable_directory
from tests.faults.attempts import HANDLERS, attempts, effects
from tests.faults.links import NoLinks, host
from tests.inbox import add, look
from tests.processes import Command, agent_event, free_port, processor, wait_for

ANSWER_SECONDS = 2.5  # what the receiver may take; the test allows for a machine that is busy
FREE_SECONDS = 60  # what the database may take to notice that a machine is gone


@pytest.fixture
def away():
    """Another host."""
    with ExitStack() as stack:
        try:
            made = stack.enter_context(host())
        except NoLinks as reason:
            pytest.skip(f"no network namespace: {reason}")
        yield made


@pytest.fixture
def database(away):
    """The link to the other host, and the DSN of a database at its end here."""
    link = away.link()
    with (
        reachable_directory() as directory,
        postgres.start(directory / "data", settings=[f"--listen_addresses=127.0.0.1,{link.here}"]) as server,
    ):
        with (directory / "data" / "pg_hba.conf").open("a") as hba:
            hba.write(f"host all all {link.there}/32 scram-sha-256\n")
        with psycopg.connect(server.dsn, autocommit=True) as conn:
            conn.execute("SELECT pg_reload_conf()")
            migrations.migrate(conn)
        yield link, server.dsn


@pytest.fixture
def conn(database):
    with psycopg.connect(database[1], autocommit=True) as opened:
        opened.execute("CREATE TABLE effects (event bigint)")
        yield opened


def from_there(link, dsn):
    """Return the DSN as the other host has to write it, with the settings that our commands add."""
    return make_conninfo(dsn, host=link.here)


@contextmanager
def on_host(away, dsn, *options):
    """Run a processor on the other host."""
    command = Command(dsn, "processor", "run", *options, before=away.run)
    try:
        yield command
    finally:
        command.stop()


class Client:
    """Sends deliveries to the receiver of the other host over a link of its own."""

    def __init__(self, address: str, port: int) -> None:
        self.at = (address, port)

    def get(self, path: str) -> int:
        return self.ask("GET", path)

    def post(self, event_id: str) -> int:
        return self.ask("POST", "/webhooks/agent", *agent_event(event_id))

    def ask(self, *request) -> int:
        connection = http.client.HTTPConnection(*self.at, timeout=30)
        try:
            connection.request(*request)
            return connection.getresponse().status
        finally:
            connection.close()

    def ready(self) -> bool:
        try:
            return self.get("/readyz") == 200
        except OSError:
            return False


@pytest.fixture
def receiver(away, database, tmp_path):
    """A client of a receiver on the other host, without a spool."""
    outside, port = away.link(), free_port()
    words = ("receiver", "run", "--host", outside.there, "--port", str(port))
    command = Command(from_there(*database), *words, before=away.run, SPOOL_DIR="off")
    client = Client(outside.there, port)
    try:
        wait_for(client.ready)
        yield client
    finally:
        command.stop()


def test_a_receiver_whose_database_has_vanished_answers_in_time_and_stores_again_afterwards(conn, database, receiver):
    link, _ = database
    assert receiver.post("before") == 200
    link.down()
    began = time.monotonic()
    statuses = [receiver.post(f"meanwhile-{number}") for number in range(3)]
    took = time.monotonic() - began
    alive = receiver.get("/livez")
    link.up()
    wait_for(lambda: receiver.post("after") == 200)

    assert (statuses, alive) == ([503] * 3, 200)
    assert took < 3 * (ANSWER_SECONDS + 1)
    stored = {event_id for (event_id,) in conn.execute("SELECT event_id FROM webhook_events")}
    assert {"before", "after"} <= stored


def test_a_processor_whose_host_vanished_loses_its_event_by_keepalives_and_goes_on_when_the_link_is_back(
    conn, away, database, trace
):
    link, dsn = database
    event = add(conn, "fault.query_once")
    options = ("--interval", "0.1", "--handler-timeout", "600", *HANDLERS)
    with on_host(away, from_there(link, dsn), *options):
        wait_for(lambda: attempts(trace))
        link.down()
        began = time.monotonic()
        with processor(dsn, *options):
            wait_for(lambda: look(conn, event, "outcome") == ("handled",), FREE_SECONDS + 30)
        took = time.monotonic() - began

        link.up()
        second = add(conn, "fault.note")
        wait_for(lambda: effects(conn) == [event, second])

    assert took < FREE_SECONDS
