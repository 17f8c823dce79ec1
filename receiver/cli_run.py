"""`receiver run`: the server, alone or in several processes."""

import os
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import replace

import click

from receiver.app import create_app
from receiver.cli_sources import urls
from receiver.http import server
from receiver.http.listeners import Handover, activated, bound
from receiver.outage.slot import SLOTS
from receiver.reload import on_hangup
from receiver.settings import from_environ
from receiver.workers import Workers
from sql import log as log_lines

PORT_MAX = 65535


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=8000,
    show_default=True,
    envvar="PORT",
    show_envvar=True,
    type=click.IntRange(0, PORT_MAX),
    help="Port; 0 takes a free one.",
)
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(1, SLOTS),
    help="Processes that accept on the same port, each with its own connections to the database.",
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
    "--metrics-port",
    type=click.IntRange(1, PORT_MAX),
    help="Serve Prometheus there, at /metrics; each further worker on the next port. Default: nowhere.",
)
@click.option("--metrics-host", default="127.0.0.1", show_default=True, help="Address to serve it on.")
def run(  # noqa: PLR0913 - one argument an option
    *,
    host: str,
    port: int,
    workers: int,
    drain: float,
    handover: str | None,
    metrics_port: int | None,
    metrics_host: str,
) -> None:
    """Take deliveries until SIGTERM or Ctrl-C; then finish those under way. A second signal ends it at once.

    SIGHUP reads sources and secrets again. With --workers send signals to the parent; a worker that dies is replaced.

    Sources are those of the TOML file WEBHOOK_SOURCES, else the default ones whose secret is set:
    TWILIO_AUTH_TOKEN, VAPI_WEBHOOK_SECRET, DIALPAD_WEBHOOK_SECRET, WEBHOOK_SECRET. Twilio signs the public
    URL: set BASE_URL to what is configured at Twilio, whatever proxy stands in front.

    Sockets that systemd passes (LISTEN_FDS) are served in place of --host and --port.

    While the database is away, deliveries are kept in the directory SPOOL_DIR, at most SPOOL_MAX_BYTES (1 GiB) of
    them, and brought to it when it is back; SPOOL_DIR=off answers them 503. Default: below systemd's state
    directory, or ~/.local/state.
    """
    if metrics_port and metrics_port + workers - 1 > PORT_MAX:
        raise click.UsageError(f"--metrics-port: expected room for {workers} ports, got {metrics_port}")
    hangups: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until it serves
    signal.signal(signal.SIGHUP, lambda number, _: hangups.append(number))
    log_lines.to_stream(os.environ)
    settings = replace(from_environ(os.environ), metrics_at=(metrics_host, metrics_port) if metrics_port else None)
    heir = Handover(handover) if handover else None
    listeners = activated(os.environ) or (heir and heir.take()) or bound(host, port)
    if listeners[0].family != socket.AF_UNIX:
        port = listeners[0].getsockname()[1]
    with suppress(OSError):  # a full log disk, a closed pipe: what can't be said keeps nobody from receiving
        for source in settings.sources:
            for url in urls(source, f"http://{host}:{port}"):
                click.echo(f"{source.name:<16} {url}", err=True)
    if workers > 1:
        parent = Workers(settings, listeners, workers, drain, heir)
        _repeat(hangups)
        sys.exit(parent.run())
    app = create_app(settings)
    on_hangup(app.state.door)
    _repeat(hangups)
    server.run(server.Server(app, listeners), drain, heir)


def _repeat(hangups: list[int]) -> None:
    """Send ourselves a SIGHUP that came before it was heeded: what was read may have changed since."""
    if hangups:
        signal.raise_signal(signal.SIGHUP)
