"""`processor demo`: the whole inbox, on a database of its own."""

import sys
from pathlib import Path

import click

from processor import demo as whole
from processor.command import FAILED, INTERRUPTED
from processor.postgres import Unavailable, default_data_dir


@click.command()
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
    try:
        if not whole.demo(data_dir or default_data_dir(), modules, fresh=fresh, leave=leave):
            sys.exit(INTERRUPTED)
    except (whole.DemoFailed, Unavailable) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(FAILED)
