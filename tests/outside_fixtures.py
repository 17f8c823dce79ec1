"""Fixtures of the tests of outside handlers; imported by name."""

import psycopg
import pytest

from processor import registry
from processor.workers import Crew


@pytest.fixture
def called(monkeypatch):
    monkeypatch.setattr(registry, "HANDLERS", [])
    monkeypatch.setattr("processor.breakers.HANDLERS", registry.HANDLERS)
    return []


@pytest.fixture
def work(dsn):
    """Do what is due, as `processor run --once` does."""

    def connect():
        return psycopg.connect(dsn, autocommit=True)

    return lambda **options: Crew(connect, **options).run_here(0.05, max_events=None, once=True)
