"""The receiver's commands: run it, list its sources and what it refused, send it a signed sample, check a deployment.

receiver/exits.py has the exit codes.
"""

import sys

import click

from sql.commands import LazyGroup

COMMANDS = {
    "check": ("receiver.check:check", "Play a provider against a running deployment."),
    "doctor": ("receiver.cli_sources:doctor", "Look for what keeps the receiver from working."),
    "explain": ("receiver.cli_quarantine:explain_one", "Say why a delivery was not proven."),
    "quarantine": ("receiver.cli_quarantine:held", "List and show the refused deliveries that are kept."),
    "refusals": ("receiver.cli_refusals:refusals", "List what was refused, by source, status and cause."),
    "release": ("receiver.cli_quarantine:release", "Verify deliveries in quarantine again, by today's configuration."),
    "run": ("receiver.cli_run:run", "Take deliveries until SIGTERM or Ctrl-C."),
    "send": ("receiver.cli_send:send", "Send signed sample deliveries to a running receiver."),
    "sources": ("receiver.cli_sources:sources", "List the sources that are on."),
    "spool": ("receiver.cli_spool:spool", "Look into SPOOL_DIR, where a receiver keeps deliveries."),
}


@click.group(
    cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
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


def main() -> None:
    """Run the command, and turn what it raises into lines and an exit code."""
    try:
        cli(prog_name="receiver")
    except Exception as error:
        from receiver import exits  # noqa: PLC0415 - it knows all that can go wrong, and most does not

        if (found := exits.told(error)) is None:
            raise
        faults, code = found
        for line in "\n".join(faults).splitlines():
            click.echo(f"error: {line}", err=True)
        sys.exit(code)
