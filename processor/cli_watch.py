"""The commands that print what the handlers' systems come to, as it changes."""

import sys
from datetime import timedelta

import click

from processor import output, watch
from processor.command import BAD_CONFIGURATION, INTERRUPTED, connection, json_option, nothing
from processor.options import Duration

# Its lines come one by one, so nothing can be aligned with what is yet to come.
WIDTHS = {"at": 25, "status": 9, "total": 7, "active": 7, "completed": 9, "failed": 7, "completed_rate": 14,
          "failed_rate": 11, "ended_rate": 10}  # fmt: skip


@click.group("watch")
def watch_group() -> None:
    """Print what changes, as it does."""


@watch_group.command("campaign")
@click.argument("campaign", metavar="ID")
@click.option("--app", "app_id", default="default", show_default=True, metavar="ID", help="The campaign's tenant.")
@click.option("--interval", type=Duration(), default="1s", show_default=True, help="Between two looks: 1s, 1m.")
@json_option
def watch_campaign(campaign: str, app_id: str, interval: timedelta, *, as_json: bool) -> None:
    """Print a campaign's progress, and again whenever it changes, until it is COMPLETED.

    \b
    processor watch campaign spring-survey
    processor watch campaign spring-survey --json | jq .ended_rate

    Exit 0 once it is COMPLETED, 3 where there is no such campaign (or no more), 130 on Ctrl-C. Rates are shares of
    the total; ended_rate is of planned_calls, where the campaign has them.
    """  # noqa: D301 - the character, not its escape, keeps click from filling the lines
    status = None
    try:
        with connection() as conn:
            for row in watch.follow_campaign(conn, app_id, campaign, interval.total_seconds()):
                if as_json:
                    click.echo(output.json_line(row))
                else:
                    if status is None:
                        click.echo(output.line({name: name for name in WIDTHS}, WIDTHS))
                    click.echo(output.line(row, WIDTHS))
                status = row["status"]
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except watch.NoCampaigns as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(BAD_CONFIGURATION)
    if status != "COMPLETED":
        nothing(f"no {'more ' if status else ''}campaign {campaign!r} of app {app_id!r}")
