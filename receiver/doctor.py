"""What keeps a receiver from working, or will: its sources and their secrets, the database, what it refuses."""

from collections.abc import Iterator, Mapping
from datetime import UTC
from time import time

import psycopg

from receiver.refusals import recent
from receiver.settings import BadSettings, Source, sources_from
from sql import checkup, database
from sql.checkup import FAIL, OK, WARN, Finding

LATELY = "1h"
# By source, else by status: what to look at where deliveries of a provider are refused.
FIXES = {"unknown": "compare the URL at the provider with `receiver sources`", 401: "compare the provider's secret"}


def examine(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield every finding, of what `receiver run` would meet and what it met; never a secret."""
    try:
        for source in sources_from(environ):
            names = ", ".join(secret.name for secret in source.secrets) or "insecure = true: takes anybody's deliveries"
            yield Finding(OK, "source", f"{source.name}: {names}")
            yield from dates(source, time())
    except BadSettings as error:
        for fault in error.faults:
            yield Finding(FAIL, "source", fault)
    yield from checkup.examine(environ, "inbox-doctor")
    yield from refusals(environ)


def dates(source: Source, now: float) -> Iterator[Finding]:
    """Tell of secrets that have ended, end within a week, or begin later; and of a source that has no other."""
    fixes = {"ended": "remove it", "ends": "see that the next one counts before", "begins": ""}
    for secret in source.secrets:
        if words := secret.dates(now):
            level = OK if words.startswith("begins") else WARN
            yield Finding(level, "secret", f"{source.name}: {secret.name} {words}", fixes[words.partition(" ")[0]])
    if source.secrets and not any(secret.counts(now) for secret in source.secrets):
        fix = "add the provider's secret of today, and send SIGHUP"
        yield Finding(FAIL, "secret", f"{source.name}: none counts now, so every delivery is refused", fix)


def refusals(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Tell what was refused in the last hour, with the day's count; nothing where checkup told why nobody can know."""
    try:
        with psycopg.connect(database.dsn(environ, "inbox-doctor"), **database.CONNECT) as conn:
            found = recent(conn, LATELY)
    except psycopg.errors.InsufficientPrivilege as error:
        fix = "as the tables' owner: processor db sql --grants | psql"
        yield Finding(WARN, "refusals", str(error.diag.message_primary), fix)
        return
    except (database.NoDatabase, psycopg.Error):
        return
    for row in found:
        first, last = (row[name].astimezone(UTC) for name in ("first_at", "last_at"))
        text = f"{row['source']}: {row['refused']} refused {first:%Y-%m-%d %H:%M} to {last:%H:%M} UTC: {row['cause']}"
        yield Finding(WARN, "refusals", text, FIXES.get(row["source"]) or FIXES.get(row["status"], ""))
    if not found:
        yield Finding(OK, "refusals", "none in the last hour")
