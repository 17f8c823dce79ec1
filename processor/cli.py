"""The operators' commands. Each finds what it is about, asks before it changes much, and calls operations.

Exit codes: 0 done, 1 failed or declined, 2 wrong usage, 3 nothing matched, 4 over a threshold, 69 the
database does not answer, 78 bad configuration, 130 interrupted.
"""

import sys
from typing import NoReturn

import click
import psycopg

from processor.command import BAD_CONFIGURATION, NO_DATABASE
from processor.registry import BadHandlers
from sql import database
from sql.commands import LazyGroup

COMMANDS = {
    "actions": ("processor.cli_pause:list_actions", "List what was done by these commands."),
    "completion": (
        "processor.cli_completion:completion",
        "Print a script that teaches the shell to complete these commands.",
    ),
    "db": ("processor.cli_db:db", "Make and inspect the tables, and prune them."),
    "dead": ("processor.cli_dead:dead", "Look at dead letters."),
    "demo": ("processor.cli_demo:demo", "See it work."),
    "doctor": ("processor.cli_handlers:doctor", "Look for what keeps the processor from working."),
    "events": ("processor.cli_events:events", "List events, show one, or watch them come in."),
    "handlers": ("processor.cli_handlers:handlers", "List the registered handlers and the events each is for."),
    "pause": ("processor.cli_pause:pause", "Handle no events of a source or type for now."),
    "replay": ("processor.cli_change:replay", "Make events due again."),
    "resume": ("processor.cli_pause:resume", "Handle events of a paused source or type again."),
    "run": ("processor.cli_run:run", "Claim due events and hand each to its handlers, until SIGTERM or Ctrl-C."),
    "skip": ("processor.cli_change:skip", "Close events without running their handlers."),
    "status": ("processor.cli_status:status", "Show what waits, what is retried, what is dead."),
    "watch": ("processor.cli_watch:watch_group", "Print what changes, as it does."),
}


@click.group(
    cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
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


def main() -> None:
    """Run the command, and turn what it raises into one line and an exit code."""
    try:
        cli(prog_name="processor")
    except (database.NoDatabase, BadHandlers) as error:
        _fail(str(error), BAD_CONFIGURATION)
    except database.PENDING:
        _fail("the database has no tables of ours, or older ones; run `processor db migrate`", BAD_CONFIGURATION)
    except psycopg.OperationalError as error:
        # libpq's text names host, port and user, never the password.
        _fail(f"the database does not answer: {' '.join(str(error).split())}", NO_DATABASE)
    except psycopg.errors.InsufficientPrivilege as error:
        _fail(f"{error.diag.message_primary}; see `processor db sql --grants`", BAD_CONFIGURATION)


def _fail(words: str, code: int) -> NoReturn:
    click.echo(f"error: {words}", err=True)
    sys.exit(code)
