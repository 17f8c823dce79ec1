"""`receiver send`: signed samples to a running receiver."""

import json
import os
import shlex
import sys
from datetime import UTC, datetime
from typing import Any

import click

from receiver.delivery import Delivery
from receiver.samples import TYPES, Sample, build
from receiver.sender import post, receiver_at
from receiver.settings import Source, sources_from
from receiver.tour import Step, tour


@click.command()
@click.argument("source", required=False)
@click.argument("event_type", metavar="TYPE", required=False)
@click.option("--to", default="http://127.0.0.1:8000", show_default=True, metavar="URL", help="The receiver.")
@click.option(
    "--id",
    "subject_id",
    default="",
    help="Subject: CA..., SM..., a call or reminder id. Default: a new one. "
    "With --tour: 32 hex digits, of which its ids are made.",
)
@click.option("--override", multiple=True, metavar="NAME=VALUE", help="Set a field of the payload. Repeatable.")
@click.option("--query", multiple=True, metavar="NAME=VALUE", help="Set a parameter of the URL. Repeatable.")
@click.option("--count", type=click.IntRange(1, 100_000), default=1, show_default=True, help="So many events.")
@click.option("--repeat", type=click.IntRange(1, 100), default=1, show_default=True, help="Each event so often.")
@click.option("--forge", is_flag=True, help="Sign with a wrong secret: must be refused.")
@click.option("--curl", is_flag=True, help="Print the curl command instead of sending.")
@click.option("--tour", "touring", is_flag=True, help="Send the demo's deliveries to all default sources.")
@click.option("--json", "as_json", is_flag=True, help="JSON Lines instead of text.")
def send(  # noqa: PLR0913 - one argument an option
    *, source: str | None, event_type: str | None, to: str, subject_id: str, override: tuple[str, ...],
    query: tuple[str, ...], count: int, repeat: int, forge: bool, curl: bool, touring: bool, as_json: bool,
) -> None:  # fmt: skip
    """Send signed sample deliveries to a running receiver that has the same configuration.

    \b
    receiver send                                  which types there are
    receiver send twilio call.completed --id CA0123
    receiver send twilio call.answered --query campaign_id=spring --query contact_id=ann
    receiver send agent call.failed --curl         the same as a curl command
    """  # noqa: D301 - the character, not its escape, keeps click from filling the lines
    to = receiver_at(to)
    configured = {found.name: found for found in sources_from(os.environ)}
    if touring:
        deliver([step for step in tour(subject_id) if step.source in configured], configured, to, as_json)
        return
    if not source or not event_type:
        for name, found in configured.items():
            click.echo(f"{name}: {' '.join(TYPES[found.provider])}")
        return
    if source not in configured:
        raise click.UsageError(f"no source {source!r}; on are {', '.join(configured)}")
    fields, parameters = (dict(pair.partition("=")[::2] for pair in pairs) for pairs in (override, query))
    sample = Sample(event_type, subject_id, fields, forge, parameters)
    if curl:
        click.echo(curl_command(build(configured[source], sample, datetime.now(UTC)), to))
        return
    deliver([Step(source, sample)] * count, configured, to, as_json, repeat)


def deliver(steps: list[Step], configured: dict[str, Source], to: str, as_json: bool, repeat: int = 1) -> None:
    """Send each sample, print each answer; exit 1 if one was refused that wasn't forged."""
    refused = False
    for step in steps:
        name, sample, note = step.source, step.sample, step.note
        delivery = build(configured[name], sample, datetime.now(UTC))
        (event,) = configured[name].adapter.identify(delivery, configured[name].options)
        for _ in range(repeat):
            sent = post(delivery, to)
            refused = refused or (sent.status >= 300 and not sample.forged)
            row: dict[str, Any] = {
                "source": name, "event_type": event.event_type, "subject": event.subject, "event_id": event.event_id,
                "status": sent.status, "ms": round(sent.ms, 1), "story": step.story, "note": note, "answer": sent.body,
            }  # fmt: skip
            words = f"{sent.status}  {name:<16}{event.event_type:<20}{event.subject or '-'}  {sent.ms:.1f} ms  {note}"
            click.echo(json.dumps(row) if as_json else words.rstrip())
    if refused:
        sys.exit(1)


def curl_command(delivery: Delivery, to: str) -> str:
    """Return a command for a shell that sends *delivery*."""
    words = ["curl", "-i", to.rstrip("/") + delivery.target]
    for name, value in delivery.headers.items():
        words += ["-H", f"{name}: {value}"]
    words += ["--data-raw", delivery.body.decode()]
    return " ".join(map(shlex.quote, words))
