"""`processor handlers` and `processor doctor`: what is registered, and what is wrong."""

import os
import sys

import click

from processor import output
from processor.command import json_option
from processor.doctor import examine
from processor.options import handlers_option
from processor.registry import HANDLERS, load
from sql.checkup import report


@click.command()
@handlers_option
@json_option
def handlers(modules: tuple[str, ...], *, as_json: bool) -> None:
    """List the registered handlers and the events each is for."""
    load(modules)
    found = [
        {
            "event_type": event_type,
            "provider": handler.provider or "any",
            "source": handler.source or "any",
            "handler": handler.name,
            "max_attempts": handler.max_attempts,
            "outside": handler.outside,
        }
        for handler in HANDLERS
        for event_type in handler.event_types
    ]
    found.sort(key=lambda row: str(row["event_type"]))
    output.rows(found, ["event_type", "provider", "source", "handler", "max_attempts", "outside"], as_json=as_json)


@click.command()
@handlers_option
@json_option
def doctor(modules: tuple[str, ...], *, as_json: bool) -> None:
    """Look for what keeps the processor from working: handlers, database, schema, settings; each fault with its fix.

    A line a finding: ok, warn or FAIL. Exit 4 where there is a FAIL. `receiver doctor` looks at sources and secrets.
    """
    sys.exit(report(examine(os.environ, modules), click.echo, as_json=as_json))
