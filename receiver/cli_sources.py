"""`receiver sources` and `receiver doctor`: what a receiver would run on, and what is wrong with it."""

import json
import os
import sys
from time import time

import click

from receiver.settings import Source, sources_from


@click.command()
@click.option("--json", "as_json", is_flag=True, help="JSON Lines instead of text.")
def sources(*, as_json: bool) -> None:
    """List the sources that are on, each with the URLs to paste into its provider's console."""
    for source in sources_from(os.environ):
        found = urls(source, "http://127.0.0.1:8000")
        if as_json:
            dates = {secret.name: words for secret in source.secrets if (words := secret.dates(time()))}
            row = {"source": source.name, "provider": source.provider, "app_id": source.app_id, "urls": found,
                   "secrets": [secret.name for secret in source.secrets],
                   "dates": dates, "max_body": source.max_body}  # fmt: skip
            click.echo(json.dumps(row))
        else:
            for url in found:
                click.echo(f"{source.name}\t{source.provider}\t{url}")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="JSON Lines instead of text.")
def doctor(*, as_json: bool) -> None:
    """Look for what keeps the receiver from working: sources, secrets, database; each fault with its fix.

    A line a finding: ok, warn or FAIL. Exit 4 where there is a FAIL. `processor doctor` looks at the handlers.
    """
    # Imported here: the other commands need no database.
    from receiver.doctor import examine  # noqa: PLC0415
    from sql.checkup import report  # noqa: PLC0415

    sys.exit(report(examine(os.environ), click.echo, as_json=as_json))


def urls(source: Source, local: str) -> list[str]:
    """Return the source's URLs: public where its base URL is known, else local ones."""
    return [(source.base_url or local) + path for path in source.paths]
