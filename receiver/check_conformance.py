"""``receiver check conformance``: the conformance list, tried on any deployment over HTTP."""

import os
import sys

import click

from receiver.check_report import report
from receiver.conformance import answers, bodies, framing, load, signatures, strain, unseen
from receiver.conformance.items import ITEMS, run
from receiver.conformance.probes import Probe, probe_command, probe_database
from receiver.conformance.trial import Trial
from receiver.sender import receiver_at
from receiver.settings import public_url, sources_from

GROUPS = (answers, bodies, framing, load, signatures, strain, unseen)  # imported, their items are listed
WIDTH = 58


def _items(_context: click.Context, _option: click.Parameter, value: str) -> frozenset[str]:
    numbers = frozenset(filter(None, value.upper().replace(" ", "").split(",")))
    if unknown := sorted(numbers - ITEMS.keys()):
        raise click.BadParameter(f"no item {', '.join(unknown)}; expected some of C1 to C{len(ITEMS)}, as C5,C6")
    return numbers


@click.command()
@click.option("--url", required=True, metavar="URL", help="The deployment's public base URL: what a provider calls.")
@click.option("--source", "name", required=True, help="The source to play; its path and secret are those set here.")
@click.option("--to", default="", metavar="URL", help="Where to connect, if not there: 127.0.0.1:8000.")
@click.option("--only", default="", callback=_items, metavar="C5,C6", help="These items alone.")
@click.option("--slow", is_flag=True, help="Also what takes 10 s and more, or offers 512 MB: C30, C41, C47, C48.")
@click.option("--probe-dsn", default="", metavar="DSN", help="Count events in this database, an inbox like ours.")
@click.option("--probe", default="", metavar="COMMAND",
              help="Count by a command that prints how many events there are of SUBJECT, or of EVENT_ID.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="JSON Lines instead of text, an item a line.")
def conformance(  # noqa: PLR0913 - one argument an option
    *, url: str, name: str, to: str, only: frozenset[str], slow: bool, probe_dsn: str, probe: str, as_json: bool
) -> None:
    """Try the conformance list, C1 to C48, on a deployment: ours or another's, over HTTP alone.

    Deliveries are signed as `receiver send` signs them, with the source's secret of this environment; for another's
    receiver write a sources file with its path and secret. A line an item: ok, warn, FAIL or skip, with what was
    expected and what came; exit 1 after a FAIL. Without a probe only answers are judged, and not what was stored.

    It takes less than a minute, with --slow less than four, and leaves some 150 events, which are processed like any
    others. Their ids begin with CA7e57, 7e57, 7357 or check-; of those that can't be read, the bodies hold 7e57.

    \b
    receiver check conformance --url https://hooks.example.com --source twilio
    receiver check conformance --url https://hooks.example.com --source vapi --to 127.0.0.1:8000 --only C5,C23
    """  # noqa: D301 - the character, not its escape, keeps click from filling the lines
    sources = {source.name: source for source in sources_from(os.environ)}
    if name not in sources:
        raise click.UsageError(f"no source {name!r}; on are {', '.join(sources)}")
    if not sources[name].secrets:
        raise click.UsageError(f"source {name!r}: no secret, so nothing can be proven or refused")
    if probe and probe_dsn:
        raise click.UsageError("--probe and --probe-dsn exclude each other")
    counting: Probe | None = probe_command(probe) if probe else probe_database(probe_dsn) if probe_dsn else None
    others = (source for source in sources.values() if source.name != name)
    try:
        trial = Trial(sources[name], public_url(url), receiver_at(to) if to else "", others=others, probe=counting)
    except ValueError as error:
        raise click.UsageError(f"--url {url.rpartition('@')[2]!r}: {error}") from None
    sys.exit(report(run(trial, only, slow=slow), click.echo, as_json=as_json, width=WIDTH))
