"""The operators' commands. Each finds what it is about, asks before it changes much, and calls operations.

Exit codes: 0 done, 1 failed or declined, 2 wrong usage, 3 nothing matched, 4 over a threshold, 69 the
database does not answer, 78 bad configuration, 130 interrupted.
"""

import logging
import os
import signal
import sys
import threading
from dataclasses import asdict
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import NoReturn

import click
import psycopg
from click.shell_completion import get_completion_class

from processor import (
    cli_change,
    cli_db,
    cli_dead,
    cli_events,
    cli_pause,
    cli_status,
    cli_watch,
    migrations,
    output,
)
from processor.claim import Scope
from processor.command import BAD_CONFIGURATION, INTERRUPTED, NO_DATABASE, json_option, until_signal
from processor.loop import BATCH_SIZE, TIMEOUT
from processor.options import Duration, handlers_option
from processor.outside import CONCURRENCY
from processor.pruner import Pruner
from processor.registry import HANDLERS, BadHandlers, load
from processor.supervisor import Supervisor
from processor.workers import Crew
from sql import database
from sql import log as log_lines
from sql.connection import Connection

log = logging.getLogger("processor")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="webhook-inbox")
def cli() -> None:
    """Hand stored webhook events to their handlers, watch them, and repair what went wrong.

    \b
    processor demo                                  see it work, with nothing installed
    processor db migrate                            make the tables in DATABASE_URL
    processor run --interval 5 --handlers myapp     process events until SIGTERM
    processor status                                what waits, what is dead, how old
    processor replay --type call.completed --since 2h
    processor watch campaign spring-survey          how far a campaign is, as it changes
    processor doctor                                what is wrong, and how it is mended
    """  # noqa: D301 - the character, not its escape, keeps click from filling the lines


@cli.command()
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
    default=BATCH_SIZE,
    show_default=True,
    help="Events a transaction, at most.",
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
    batch_size: int,
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


@cli.command()
@click.option("--fresh", is_flag=True, help="Wipe the demo's own database first.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where the demo's database lies. Default: below ~/.local/share, for root /var/lib.",
)
@click.option("--exit", "leave", is_flag=True, help="End after the samples; exit 1 if one went wrong.")
@click.option(
    "--handlers", "modules", multiple=True, metavar="MODULE", help="Handlers of your own to run as well. Repeatable."
)
def demo(*, fresh: bool, data_dir: Path | None, leave: bool, modules: tuple[str, ...]) -> None:
    """See it work: a private PostgreSQL, receiver, processor and 50 signed deliveries of four providers.

    Needs nothing but `pip install 'webhook-inbox[demo]'`: no Docker, no PostgreSQL, root or not. Stays up until
    Ctrl-C; a second run keeps the data. With DATABASE_URL set, that database is used instead.
    """
    # Imported here: no other command brings its own database.
    from processor import demo as whole  # noqa: PLC0415
    from processor.postgres import Unavailable, default_data_dir  # noqa: PLC0415

    try:
        if not whole.demo(data_dir or default_data_dir(), modules, fresh=fresh, leave=leave):
            sys.exit(INTERRUPTED)
    except (whole.DemoFailed, Unavailable) as error:
        _fail(str(error), 1)


@cli.command()
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


@cli.command()
@handlers_option
@json_option
def doctor(modules: tuple[str, ...], *, as_json: bool) -> None:
    """Look for what keeps the processor from working: handlers, database, schema, settings; each fault with its fix.

    A line a finding: ok, warn or FAIL. Exit 4 where there is a FAIL. `receiver doctor` looks at sources and secrets.
    """
    # Imported here: no other command needs a doctor.
    from processor.doctor import examine  # noqa: PLC0415
    from sql.checkup import report  # noqa: PLC0415

    sys.exit(report(examine(os.environ, modules), click.echo, as_json=as_json))


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a script that teaches the shell to complete these commands by Tab.

    \b
    bash   processor completion bash > ~/.local/share/bash-completion/completions/processor
    zsh    processor completion zsh > ~/.processor-completion; echo '. ~/.processor-completion' >> ~/.zshrc
    fish   processor completion fish > ~/.config/fish/completions/processor.fish

    Then start a new shell.
    """  # noqa: D301 - see above
    script = get_completion_class(shell)
    assert script is not None  # noqa: S101 - click has all three
    click.echo(script(cli, {}, "processor", "_PROCESSOR_COMPLETE").source())


for command in (
    cli_status.status, cli_events.events, cli_change.replay, cli_change.skip, cli_dead.dead, cli_pause.pause,
    cli_pause.resume, cli_pause.list_actions, cli_db.db, cli_watch.watch_group,
):  # fmt: skip
    cli.add_command(command)


def main() -> None:
    """Run the command, and turn what it raises into one line and an exit code."""
    try:
        cli(prog_name="processor")
    except (database.NoDatabase, BadHandlers) as error:
        _fail(str(error), BAD_CONFIGURATION)
    except migrations.PENDING:
        _fail("the database has no tables of ours, or older ones; run `processor db migrate`", BAD_CONFIGURATION)
    except psycopg.OperationalError as error:
        # libpq's text names host, port and user, never the password.
        _fail(f"the database does not answer: {' '.join(str(error).split())}", NO_DATABASE)
    except psycopg.errors.InsufficientPrivilege as error:
        _fail(f"{error.diag.message_primary}; see `processor db sql --grants`", BAD_CONFIGURATION)


def _fail(words: str, code: int) -> NoReturn:
    click.echo(f"error: {words}", err=True)
    sys.exit(code)
