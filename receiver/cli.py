"""The receiver's commands: run it, list its sources and what it refused, send it a signed sample, check a deployment.

Exit codes: 0 done, 1 a delivery was refused or a check failed, 2 wrong usage, 3 nothing matched, 4 the doctor found a
fault, 69 no receiver or no database answers, 78 bad configuration.
"""

import json
import os
import shlex
import signal
import socket
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from time import time
from typing import Any

import click
import psycopg

from receiver import cli_quarantine, cli_refusals, cli_spool
from receiver.check import check
from receiver.delivery import Delivery
from receiver.outage.slot import Unusable
from receiver.outage.spool import Failed
from receiver.samples import TYPES, NoSample, Sample, build
from receiver.sender import post, receiver_at
from receiver.settings import BadSettings, Source, from_environ, sources_from
from receiver.tour import Step, tour
from sql import database
from sql import log as log_lines

UNAVAILABLE, BAD_CONFIGURATION = 69, 78


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="webhook-inbox")
def cli() -> None:
    """Receive provider webhooks: check the signature, store the event, then answer.

    \b
    receiver run --port 8000              take deliveries; prints each source's URL
    receiver sources                      which sources are on, and their URLs
    receiver doctor                       what is wrong, and how it is mended
    receiver refusals --since 7d          what was refused, and why
    receiver explain --file request.http  why its signature is not right
    receiver quarantine list              refused deliveries that were kept; release lets them in
    receiver spool status                 what waits on this machine for the database
    receiver send agent call.completed    a signed sample to a running receiver
    receiver check twilio --url URL       Twilio, played against a deployment
    receiver check conformance --url URL  everything a receiver must stand, tried on a deployment
    """  # noqa: D301 - the character, not its escape, keeps click from filling the lines


cli.add_command(check)


@cli.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=8000,
    show_default=True,
    envvar="PORT",
    show_envvar=True,
    type=click.IntRange(0, 65535),
    help="Port; 0 takes a free one.",
)
@click.option(
    "--drain",
    default=10.0,
    show_default=True,
    type=click.FloatRange(0, 3600),
    help="Seconds after SIGTERM in which idle keep-alive connections may carry one more request each.",
)
@click.option(
    "--handover",
    envvar="HANDOVER",
    show_envvar=True,
    metavar="PATH",
    help="Unix socket by which a receiver takes the port over from the one that runs, which then ends.",
)
@click.option(
    "--metrics-port", type=click.IntRange(1, 65535), help="Serve Prometheus there, at /metrics. Default: nowhere."
)
@click.option("--metrics-host", default="127.0.0.1", show_default=True, help="Address to serve it on.")
def run(  # noqa: PLR0913 - one argument an option
    *, host: str, port: int, drain: float, handover: str | None, metrics_port: int | None, metrics_host: str
) -> None:
    """Take deliveries until SIGTERM or Ctrl-C; then finish those under way. A second signal ends it at once.

    SIGHUP reads sources and secrets again.

    Sources are those of the TOML file WEBHOOK_SOURCES, else the default ones whose secret is set:
    TWILIO_AUTH_TOKEN, VAPI_WEBHOOK_SECRET, DIALPAD_WEBHOOK_SECRET, WEBHOOK_SECRET. Twilio signs the public
    URL: set BASE_URL to what is configured at Twilio, whatever proxy stands in front.

    Sockets that systemd passes (LISTEN_FDS) are served in place of --host and --port.

    While the database is away, deliveries are kept in the directory SPOOL_DIR, at most SPOOL_MAX_BYTES (1 GiB) of
    them, and brought to it when it is back; SPOOL_DIR=off answers them 503. Default: below systemd's state
    directory, or ~/.local/state.
    """
    # Imported here: the other commands need no server.
    from receiver.app import create_app  # noqa: PLC0415
    from receiver.http import server  # noqa: PLC0415
    from receiver.http.listeners import Handover, Taken, activated, bound  # noqa: PLC0415
    from receiver.reload import on_hangup  # noqa: PLC0415

    hangups: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until it serves
    signal.signal(signal.SIGHUP, lambda number, _: hangups.append(number))
    log_lines.to_stream(os.environ)
    settings = replace(from_environ(os.environ), metrics_at=(metrics_host, metrics_port) if metrics_port else None)
    heir = Handover(handover) if handover else None
    try:
        listeners = activated(os.environ) or (heir and heir.take()) or bound(host, port)
    except Taken as error:
        _fail([str(error)], 1)
    if listeners[0].family != socket.AF_UNIX:
        port = listeners[0].getsockname()[1]
    with suppress(OSError):  # a full log disk, a closed pipe: what can't be said keeps nobody from receiving
        for source in settings.sources:
            for url in urls(source, f"http://{host}:{port}"):
                click.echo(f"{source.name:<16} {url}", err=True)
    app = create_app(settings, receipt_deadline=None)  # the server has its own
    on_hangup(app.state.door)
    if hangups:  # what was read may have changed since
        signal.raise_signal(signal.SIGHUP)
    server.run(server.Server(app, listeners), drain, heir)


@cli.command()
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


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="JSON Lines instead of text.")
def doctor(*, as_json: bool) -> None:
    """Look for what keeps the receiver from working: sources, secrets, database; each fault with its fix.

    A line a finding: ok, warn or FAIL. Exit 4 where there is a FAIL. `processor doctor` looks at the handlers.
    """
    # Imported here: the other commands need no database.
    from receiver.doctor import examine  # noqa: PLC0415
    from sql.checkup import report  # noqa: PLC0415

    sys.exit(report(examine(os.environ), click.echo, as_json=as_json))


@cli.command()
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
    receiver explain --file request.http  why its signature is not right
    receiver quarantine list              refused deliveries that were kept; release lets them in
    receiver send agent call.failed --curl         the same as a curl command
    """  # noqa: D301 - see above
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


def urls(source: Source, local: str) -> list[str]:
    """Return the source's URLs: public where its base URL is known, else local ones."""
    return [(source.base_url or local) + path for path in source.paths]


cli.add_command(cli_refusals.refusals)
cli.add_command(cli_quarantine.held)
cli.add_command(cli_quarantine.explain_one)
cli.add_command(cli_quarantine.release)
cli.add_command(cli_spool.spool)


def main() -> None:
    """Run the command, and turn what it raises into lines and an exit code."""
    try:
        cli(prog_name="receiver")
    except BadSettings as error:
        _fail(error.faults, BAD_CONFIGURATION)
    except (database.NoDatabase, Unusable) as error:
        _fail([str(error)], BAD_CONFIGURATION)
    except (Failed, sqlite3.Error) as error:
        _fail([f"the spool: {error}"], 1)
    except psycopg.errors.UndefinedTable:
        _fail(["the database has no tables of ours, or older ones; run `processor db migrate`"], BAD_CONFIGURATION)
    except psycopg.errors.InsufficientPrivilege as error:
        _fail([f"{error.diag.message_primary}; see `processor db sql --grants`"], BAD_CONFIGURATION)
    except psycopg.OperationalError as error:
        # libpq's text names host, port and user, never the password.
        _fail([f"the database does not answer: {' '.join(str(error).split())}"], UNAVAILABLE)
    except NoSample as error:
        _fail([str(error)], 2)
    except PermissionError as error:
        _fail([f"{error.filename}: {error.strerror}; run it as the receiver's user"], 1)
    except OSError as error:
        _fail([f"no receiver answers: {error}; start one with `receiver run`"], UNAVAILABLE)


def _fail(faults: list[str], code: int) -> None:
    for fault in _lines(faults):
        click.echo(f"error: {fault}", err=True)
    sys.exit(code)


def _lines(faults: list[str]) -> Iterator[str]:
    return (line for fault in faults for line in fault.splitlines())
