"""What keeps a receiver from working, or will: its sources and their secrets, then the database."""

from collections.abc import Iterator, Mapping

from receiver.settings import BadSettings, sources_from
from sql import checkup
from sql.checkup import FAIL, OK, Finding


def examine(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield every finding, of what `receiver run` would meet; never a secret."""
    try:
        for source in sources_from(environ):
            names = ", ".join(secret.name for secret in source.secrets) or "insecure = true: takes anybody's deliveries"
            yield Finding(OK, "source", f"{source.name}: {names}")
    except BadSettings as error:
        for fault in error.faults:
            yield Finding(FAIL, "source", fault)
    yield from checkup.examine(environ, "inbox-doctor")
