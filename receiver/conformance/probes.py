"""How many events a delivery made: counted in an inbox like ours, or by a command of the deployment's own."""

import os
import shlex
import subprocess
from collections.abc import Callable
from subprocess import PIPE

import click
import psycopg
from psycopg import Connection

from receiver.delivery import Delivery, Identity
from receiver.settings import Source
from sql import load

Probe = Callable[[Source, Delivery, Identity], int]  # returns how many events there are of a delivery


def probe_database(dsn: str) -> Probe:
    """Return a probe of an inbox like ours, by its database."""

    def probe(source: Source, delivery: Delivery, named: Identity) -> int:
        with psycopg.connect(dsn, autocommit=True, connect_timeout=5) as conn:
            return count_rows(conn, source, delivery, named)

    return probe


def count_rows(conn: Connection, source: Source, delivery: Delivery, named: Identity) -> int:
    """Return how many events of the last minutes are about a delivery's subject, or have its body."""
    names = {"source": source.name, "subject": named.subject, "body": delivery.body}
    row = conn.execute(load("count_about"), names).fetchone()
    assert row is not None  # noqa: S101 - an aggregate without GROUP BY
    return int(row[0])


def probe_command(command: str) -> Probe:
    """Return a probe that runs a command, without a shell, with SUBJECT and EVENT_ID set; it prints a number."""

    def probe(_source: Source, _delivery: Delivery, named: Identity) -> int:
        environ = {**os.environ, "SUBJECT": (named.subject or "").partition("/")[2], "EVENT_ID": named.event_id}
        try:
            done = subprocess.run(shlex.split(command), env=environ, stdout=PIPE, text=True, check=True, timeout=10)
            return int(done.stdout)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise click.ClickException(f"--probe: expected a command that prints a number ({error})") from error

    return probe
