"""What the fault tests share: their marker, their seeds, a database with a table of effects."""

from pathlib import Path
from random import randrange

import psycopg
import pytest

from tests.conftest import reachable_directory
from tests.faults import checker, servers

HERE = Path(__file__).parent
FIRST = randrange(2**31)


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.fault)


def pytest_generate_tests(metafunc):
    """Run a test that takes a seed with as many as --seeds says; the seed is in the test's name."""
    if "seed" in metafunc.fixturenames:
        first = metafunc.config.getoption("seed")
        first = FIRST if first is None else first
        metafunc.parametrize("seed", range(first, first + metafunc.config.getoption("seeds")), ids="seed{}".format)


@pytest.fixture
def conn(fresh_dsn):
    with psycopg.connect(fresh_dsn, autocommit=True) as opened:
        opened.execute("CREATE TABLE effects (event bigint)")
        yield opened


@pytest.fixture
def trace(tmp_path, monkeypatch):
    path = tmp_path / "trace"
    path.touch()
    monkeypatch.setenv("TRACE", str(path))
    return path


@pytest.fixture(scope="session")
def own_server():
    with reachable_directory() as directory, servers.server(directory / "data") as running:
        running.execute(checker.TABLES)
        yield running


@pytest.fixture
def server(own_server):
    """A server that a test may stop, with our schema and no events."""
    own_server.execute("TRUNCATE webhook_events, webhook_duplicates, effects RESTART IDENTITY CASCADE")
    return own_server
