"""What commands share: a connection for one command, --json, and how a command ends."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import click
import psycopg
from psycopg import Connection

from sql import database

FAILED, NOTHING_MATCHED, OVER_THRESHOLD = 1, 3, 4
NO_DATABASE, BAD_CONFIGURATION, INTERRUPTED = 69, 78, 130

C = TypeVar("C", bound=Callable[..., Any])


def json_option(command: C) -> C:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="JSON Lines instead of a table.")(command)


@contextmanager
def connection() -> Iterator[Connection]:
    """Connect to DATABASE_URL for one command."""
    with psycopg.connect(database.dsn(os.environ, "inbox-cli"), **database.CONNECT) as conn:
        yield conn


def until_signal(leaving: threading.Event | None = None) -> threading.Event:
    """Return an event that the first SIGTERM or SIGINT sets.

    A second one sets *leaving*; without it, it ends the process there and then.
    """
    stopping = threading.Event()

    def stop(number: int, _frame: object) -> None:
        if not stopping.is_set():
            stopping.set()
        elif leaving is not None:
            leaving.set()
        else:
            os._exit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return stopping


def nothing(words: str) -> NoReturn:
    """End the command: nothing matched."""
    click.echo(words, err=True)
    sys.exit(NOTHING_MATCHED)


def number(events: int) -> str:
    """Return ``1 event``, ``2 events``, ..."""
    return f"{events} event{'' if events == 1 else 's'}"
