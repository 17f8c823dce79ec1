"""`processor run`: the workers, and what watches over them."""

import logging
import os
import signal
import sys
import threading
from dataclasses import asdict
from datetime import timedelta
from functools import partial

import click

from processor import cli_db
from processor.claim import Scope
from processor.command import until_signal
from processor.loop import BATCH_SIZE, LIGHT_SIZE, TIMEOUT
from processor.options import Duration, handlers_option
from processor.outside import CONCURRENCY
from processor.pruner import Pruner
from processor.registry import HANDLERS, load
from processor.supervisor import Supervisor
from processor.workers import Crew
from sql import database
from sql import log as log_lines
from sql.connection import Connection

log = logging.getLogger("processor")


@click.command()
@click.option(
    "--interval",
    type=click.FloatRange(min=0.05),
    default=5.0,
    show_default=True,
    help="Seconds between two looks for due events, where nothing ends the wait earlier.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1, 1000),
    help=f"Events a transaction, at most.  [default: {BATCH_SIZE}; {LIGHT_SIZE} while they take next to no time]",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Processes that each handle a batch; where there are handlers with outside=True, as many again for these.",
)
@click.option(
    "--handler-timeout",
    type=click.FloatRange(min=0.1),
    default=TIMEOUT,
    show_default=True,
    help="Seconds a handler may take; then its worker is killed and replaced. @on(timeout=) has its own.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 256),
    default=CONCURRENCY,
    show_default=True,
    help="Handlers with outside=True that a worker runs at once.",
)
@click.option(
    "--listen/--no-listen",
    default=True,
    show_default=True,
    envvar="PROCESSOR_LISTEN",
    show_envvar=True,
    help="Let the receiver end a wait when it stores an event; behind a pooler, only poll.",
)
@click.option("--max-events", type=click.IntRange(min=1), help="Stop after so many attempts.")
@click.option("--once", is_flag=True, help="Process what is due now, then stop.")
@click.option("--source", "sources", multiple=True, help="Only of this source; inbox: our own. Repeatable.")
@click.option("--type", "types", multiple=True, help="Only events of this type. Repeatable.")
@click.option(
    "--prune-older-than",
    type=Duration(),
    envvar="PRUNE_OLDER_THAN",
    show_envvar=True,
    metavar="AGE",
    help="Every hour, delete events processed longer ago: 90d. Default: keep them.",
)
@click.option(
    "--prune-bodies-older-than",
    type=Duration(),
    envvar="PRUNE_BODIES_OLDER_THAN",
    show_envvar=True,
    metavar="AGE",
    help="Every hour, empty events processed longer ago: 7d. See `processor db prune`.",
)
@handlers_option
def run(  # noqa: PLR0913 - one argument an option
    *,
    interval: float,
    batch_size: int | None,
    workers: int,
    handler_timeout: float,
    concurrency: int,
    listen: bool,
    max_events: int | None,
    once: bool,
    sources: tuple[str, ...],
    types: tuple[str, ...],
    prune_older_than: timedelta | None,
    prune_bodies_older_than: timedelta | None,
    modules: tuple[str, ...],
) -> None:
    """Claim due events and hand each to its handlers, until SIGTERM or Ctrl-C.

    The first signal lets the event in hand finish and commits; the second leaves at once. Nothing is lost
    either way: what was not committed is due again. A worker that dies is replaced. With --once or --max-events
    there is one worker, which is not watched over, and nothing is pruned.
    """
    ages = cli_db.ages_of(prune_older_than, prune_bodies_older_than)
    log_lines.to_stream(os.environ)
    dsn = database.dsn(os.environ, "inbox-processor")
    load(modules)
    connect = partial(Connection.connect, dsn, **database.CONNECT)
    scope = Scope(list(sources) or None, list(types) or None)
    leaving = threading.Event()
    stopping = until_signal(None if once or max_events else leaving)
    crew = Crew(connect, batch_size, scope, stopping, handler_timeout, concurrency, listen)
    log.info("processor started handlers=%d workers=%d interval=%gs", len(HANDLERS), workers, interval)
    if once or max_events:
        totals = crew.run_here(interval, max_events=max_events, once=once)
        log.info("processor stopped %s", " ".join(f"{name}={count}" for name, count in asdict(totals).items()))
        return
    pruner = Pruner(ages, connect)
    code = Supervisor(crew.makes() * workers, connect, interval, stopping, leaving, chore=pruner.tick).run()
    for number in (signal.SIGTERM, signal.SIGINT):  # on our way out a further one changes nothing
        signal.signal(number, signal.SIG_IGN)
    pruner.stop()
    log.info("processor stopped")
    sys.exit(code)
