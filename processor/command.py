"""What commands share: a connection for one command, --json, and how a command ends when nothing matched."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import click
import psycopg
from psycopg import Connection

from sql import database

NOTHING_MATCHED = 3

C = TypeVar("C", bound=Callable[..., Any])


def json_option(command: C) -> C:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="JSON Lines instead of a table.")(command)


@contextmanager
def connection() -> Iterator[Connection]:
    """Connect to DATABASE_URL for one command."""
    with psycopg.connect(database.dsn(os.environ, "inbox-cli"), **database.CONNECT) as conn:
        yield conn


def nothing(words: str) -> NoReturn:
    """End the command: nothing matched."""
    click.echo(words, err=True)
    sys.exit(NOTHING_MATCHED)
