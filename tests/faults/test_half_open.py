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

ANSWER_SECONDS = 2.5  # what the receiver may take
BUSY_SECONDS = 5  # what a busy machine adds; without a deadline it is half a minute and more
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
def start(away, database):
    """A function that starts a receiver on the other host, and returns a client of it."""
    with ExitStack() as stack:

        def one(spool):
            outside, port = away.link(), free_port()
            words = ("receiver", "run", "--host", outside.there, "--port", str(port))
            command = Command(from_there(*database), *words, before=away.run, SPOOL_DIR=spool)
            stack.callback(command.stop)
            client = Client(outside.there, port)
            wait_for(client.ready)
            return client

        yield one


def stored(conn):
    return {event_id for (event_id,) in conn.execute("SELECT event_id FROM webhook_events")}


@pytest.mark.parametrize("spool", ["off", "on"])
def test_a_receiver_whose_database_has_vanished_answers_in_time_and_stores_again_afterwards(
    conn, database, start, tmp_path, spool
):
    link, _ = database
    client = start("off" if spool == "off" else str(tmp_path / "spool"))
    statuses = {"before": client.post("before")}
    link.down()
    took = []
    for number in range(3):
        began = time.monotonic()
        statuses[f"meanwhile-{number}"] = client.post(f"meanwhile-{number}")
        took.append(time.monotonic() - began)
    assert client.get("/livez") == 200
    link.up()
    wait_for(lambda: client.post("after") == 200)
    kept = {"after", *(event_id for event_id, answered in statuses.items() if answered == 200)}
    wait_for(lambda: kept <= stored(conn))

    assert list(statuses.values()) == [200, *[503 if spool == "off" else 200] * 3]
    assert max(took) < ANSWER_SECONDS + BUSY_SECONDS


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
