"""Fixtures of the tests that register handlers of their own; imported by name."""

import psycopg
import pytest

from processor import registry
from processor.loop import Processor


@pytest.fixture(autouse=True)
def no_handlers(monkeypatch):
    """In each module that imports it: no handler but those of the test."""
    monkeypatch.setattr(registry, "HANDLERS", [])


@pytest.fixture
def seen():
    """A list for handlers to note what they saw."""
    return []


@pytest.fixture
def effects(db):
    """A table for handlers to write into, and a function that returns its rows; see write."""
    db.execute("CREATE TABLE effects (event bigint, note text)")
    yield lambda: db.execute("SELECT event, note FROM effects ORDER BY event, note").fetchall()
    db.execute("DROP TABLE effects")


@pytest.fixture
def work(dsn):
    """Do what is due, as `processor run --once` does."""
    return lambda: Processor(lambda: psycopg.connect(dsn, autocommit=True)).run(0.05, once=True)


def write(event, conn, note="done"):
    conn.execute("INSERT INTO effects VALUES (%s, %s)", (event.id, note))
