"""``receiver check``: a provider played against a running deployment.

Exit codes are the receiver's: 0 all is well, 1 a check failed, 2 wrong usage, 69 no deployment answers.
"""

import os
import sys

import click

from receiver.check_conformance import conformance
from receiver.check_report import report
from receiver.check_twilio import Deployment, examine
from receiver.samples import BOB
from receiver.sender import receiver_at
from receiver.settings import public_url


@click.group()
def check() -> None:
    """Play a provider against a running deployment: what it sends, what it must be answered."""


check.add_command(conformance)


def _path(_context: click.Context, option: click.Parameter, value: str) -> str:
    if value and not (value.startswith("/") and value.isascii() and value.isprintable() and " " not in value):
        raise click.BadParameter(f"expected a path such as {option.default}, or nothing to skip it, got {value!r}")
    return value


@check.command()
@click.option("--url", required=True, metavar="URL", help="The deployment's public base URL: what Twilio signs.")
@click.option("--to", default="", metavar="URL", help="Where to connect, if not there: 127.0.0.1:8000.")
@click.option(
    "--incoming-path", default="/api/v1/webhooks/incoming-call", show_default=True, callback=_path,
    help="The voice URL; '' skips it.",
)  # fmt: skip
@click.option(
    "--status-path", default="/api/v1/webhooks/call-status", show_default=True, callback=_path,
    help="The status callback; '' skips it.",
)  # fmt: skip
@click.option(
    "--reminder-path", default="/api/v1/webhooks/incoming-reminder", show_default=True, callback=_path,
    help="The voice URL of reminder calls; '' skips it.",
)  # fmt: skip
@click.option("--number", default=BOB, show_default=True, help="Our number: of several, the one to try.")
@click.option("--json", "as_json", is_flag=True, help="JSON Lines instead of text, a check a line.")
def twilio(  # noqa: PLR0913 - one argument an option
    *, url: str, to: str, incoming_path: str, status_path: str, reminder_path: str, number: str, as_json: bool
) -> None:
    """Play Twilio: calls in, reminder calls, every status, and forgeries, which must be refused.

    The auth token is that of TWILIO_AUTH_TOKEN. A line a check: ok, warn or FAIL with what was expected and
    what came; exit 1 after a FAIL.

    It leaves rows in the deployment's inbox, which are processed like any others: 11 events and a duplicate,
    about calls CA7e57... between fictional numbers (555-01xx), new ones at each run.

    \b
    receiver check twilio --url https://hooks.example.com
    receiver check twilio --url https://hooks.example.com --to 127.0.0.1:8000    behind the proxy
    """  # noqa: D301 - the character, not its escape, keeps click from filling the lines
    paths = {"incoming": incoming_path, "reminder": reminder_path, "status": status_path}
    if not any(paths.values()):
        raise click.UsageError("nothing to check: all paths are skipped")
    if not (token := os.environ.get("TWILIO_AUTH_TOKEN", "").strip()):
        raise click.UsageError("no TWILIO_AUTH_TOKEN; set it to the auth token that the deployment has")
    try:
        deployment = Deployment(public_url(url), receiver_at(to) if to else "", token.encode(), number, paths)
    except ValueError as error:
        raise click.UsageError(f"--url {url.rpartition('@')[2]!r}: {error}") from None
    sys.exit(report(examine(deployment), click.echo, as_json=as_json))
