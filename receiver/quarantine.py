"""The last deliveries of each source that could not be proven, kept so that somebody can find out why.

Off unless QUARANTINE=on: a body must be kept as it came, with whatever personal data is in it, or it could not be
released. Of a flood of forgeries a few in some seconds are kept, in memory until a task of its own writes them, so no
request waits for the table, and a forger can make neither grow. Of headers those are kept that say how a delivery was
signed, addressed and encoded; one that carries a secret or a cookie is not among them.
"""

import json
import logging
import re
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from psycopg import Connection
from psycopg.rows import class_row

from receiver.delivery import Delivery
from receiver.reading import clean
from receiver.saver import Saver
from receiver.settings import Limits, Source
from sql import database, load
from sql.connection import AsyncConnection

log = logging.getLogger("receiver")

EVERY = 5.0  # seconds between two writes
ALIKE_MAX = 5  # deliveries of one source and cause between two writes
WAITING_MAX = 100  # deliveries in memory: with bodies of 64 KiB, some megabytes
HEADER_MAX = 4096  # characters of a header's value
SHOWN = re.compile(  # whole, on a screen; what else is kept may be a signature
    r"content-type|content-length|transfer-encoding|host|user-agent|date|forwarded|"
    r"x-forwarded-(for|host|port|prefix|proto|scheme|server|ssl)|"
    r"(webhook|svix)-(id|timestamp)|x-([a-z]+-)*timestamp|i-twilio-idempotency-token"
)
KEPT = re.compile(SHOWN.pattern + r"|(webhook|svix)-signature|x-([a-z]+-)*signature(-[a-z]?[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Held:
    """One delivery in quarantine: a row of the table."""

    source: str
    cause: str
    method: str
    target: str
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    body_bytes: int
    received_at: datetime
    id: int
    released_at: datetime | None = None

    @property
    def whole(self) -> bool:
        """Tell whether all of the body was kept."""
        return len(self.body) == self.body_bytes

    def delivery(self, base_url: str) -> Delivery:
        """Return it as it would have come to a source with that base URL."""
        return Delivery(self.method, base_url, self.target, self.headers, self.body)


@dataclass(frozen=True, slots=True)
class Waiting:
    """One delivery that is yet to be written. at: monotonic seconds."""

    source: str
    cause: str
    method: str
    target: str
    headers: str = field(repr=False)
    body: bytes = field(repr=False)
    body_bytes: int
    at: float


class Quarantine:
    """What one receiver keeps. limits: None: nothing."""

    def __init__(self, dsn: str, limits: Limits | None, every: float = EVERY) -> None:
        self.dsn = dsn
        self.limits = limits
        self.waiting: list[Waiting] = []
        self.saver = Saver("quarantined deliveries", every, lambda _last: bool(self.waiting), self.save)

    def start(self) -> None:
        """Write what is kept from now on, in the background."""
        if self.limits:
            log.warning(
                "quarantine on deliveries=%d body=%d bytes; it holds personal data",
                self.limits.deliveries,
                self.limits.body,
            )
            self.saver.start()

    async def stop(self) -> None:
        """Write what is left, if the database takes it now."""
        await self.saver.stop()

    def keep(self, source: str, delivery: Delivery, cause: str, sources: Iterable[Source]) -> None:
        """Keep *delivery* if it is among the first of its like since the last write. *sources*: all that there are."""
        if self.limits is None or len(self.waiting) >= WAITING_MAX:
            return
        if sum((one.source, one.cause) == (source, cause) for one in self.waiting) >= ALIKE_MAX:
            return
        self.waiting.append(
            Waiting(
                source,
                cause,
                delivery.method,
                clean(delivery.target),
                json.dumps(kept(delivery, sources)),
                delivery.body[: self.limits.body],
                len(delivery.body),
                time.monotonic(),
            )
        )

    async def save(self) -> None:
        """Write what waits, and delete what is more than enough; commits. Raises psycopg.Error, and it waits on."""
        assert self.limits  # noqa: S101 - without limits nothing waits
        taken, now = list(self.waiting), time.monotonic()
        rows = [{**asdict(one), "seconds": now - one.at} for one in taken]
        sources = {one.source for one in taken}
        async with await AsyncConnection.connect(self.dsn, **database.CONNECT) as conn, conn.transaction():
            await conn.cursor().executemany(load("insert_quarantine"), rows)
            for source in sorted(sources):
                await conn.execute(load("trim_quarantine"), {"source": source, "most": self.limits.deliveries})
        self.waiting = self.waiting[len(taken) :]


def kept(delivery: Delivery, sources: Iterable[Source]) -> dict[str, str]:
    """Return the headers that are kept of a delivery to one of these *sources*, or to none."""
    options = [source.options for source in sources]
    secret = {str(getattr(one, "header_name", "")).lower() for one in options}
    schemes = [scheme for one in options if (scheme := getattr(one, "hmac", None))]
    signed = {
        name.lower()
        for scheme in schemes
        for name in (scheme.signature_header, scheme.timestamp_header, scheme.message_id_header)
    }
    return {
        name: clean(value[:HEADER_MAX])
        for name, value in delivery.headers.items()
        if name not in secret and (name in signed or KEPT.fullmatch(name))
    }


def listed(conn: Connection, source: str | None, most: int) -> list[Held]:
    """Return at most so many, the newest first."""
    names = {"source": source, "id": None, "most": most}
    return conn.cursor(row_factory=class_row(Held)).execute(load("list_quarantine"), names).fetchall()


def found(conn: Connection, identifier: int) -> Held | None:
    """Return the one with that id, None where there is none (any more)."""
    names = {"source": None, "id": identifier, "most": 1}
    return conn.cursor(row_factory=class_row(Held)).execute(load("list_quarantine"), names).fetchone()


def mark_released(conn: Connection, identifier: int) -> None:
    """Note that it was released; commits."""
    conn.execute(load("mark_released"), {"id": identifier})


def shown(held: Held) -> dict[str, Any]:
    """Return what may be seen of one on a screen: no value of the URL's query, no signature in full, no body."""
    path, mark, query = held.target.partition("?")
    names = "&".join(pair.partition("=")[0] + "=…" for pair in query.split("&")) if mark else ""
    return {
        "id": held.id,
        "source": held.source,
        "received_at": held.received_at,
        "cause": held.cause,
        "method": held.method,
        "target": path + mark + names,
        "body_bytes": held.body_bytes,
        "kept": held.whole,
        "released_at": held.released_at,
        "headers": {name: value if SHOWN.fullmatch(name) else _cut(value) for name, value in held.headers.items()},
    }


def _cut(value: str) -> str:
    return f"{value[:6]}… ({len(value)} characters)" if len(value) > 12 else f"({len(value)} characters)"
