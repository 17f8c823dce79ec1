"""Letting in from quarantine what proves genuine after all: verified as at the door, and stored as there.

By today's sources, and as of the time when it came: a signed time is held against that, and so are secrets' dates.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from psycopg import Connection

from receiver import quarantine
from receiver.delivery import BadSignature, Delivery, Identity
from receiver.door import identified
from receiver.insert import Saved
from receiver.proof import proven_by
from receiver.quarantine import Held
from receiver.reading import clip
from receiver.settings import Source, source_of
from receiver.store import Store


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one: released into which events, or why not."""

    id: int
    released: bool
    words: str


def release(
    conn: Connection, dsn: str, ids: Sequence[int], sources: Sequence[Source], forced: str = ""
) -> Iterator[Outcome]:
    """Yield what becomes of each, in this order; each is committed before it is told. Raises psycopg.Error.

    *forced*: who lets it in, and why, though nothing proves it; kept as the events' verified_by.
    """
    for identifier in ids:
        held = quarantine.found(conn, identifier)
        if held is None:
            yield Outcome(identifier, released=False, words="not in quarantine (any more)")
            continue
        source = source_of(held.target, sources) or next((one for one in sources if one.name == held.source), None)
        words = _refused(held, source)
        if source is None or words:
            yield Outcome(identifier, released=False, words=words)
            continue
        delivery = held.delivery(source.base_url)
        try:
            proof = forced or _proof(held, source, delivery)
        except BadSignature as error:
            why = f"still not proven: {error}; see `receiver explain {identifier}`"
            yield Outcome(identifier, released=False, words=why)
            continue
        proven = replace(delivery, verified_by=clip(proof))
        events = identified(source, proven)
        saved = asyncio.run(_store(dsn, source, proven, events))
        quarantine.mark_released(conn, identifier)
        told = ", ".join(_told(event, row) for event, row in zip(events, saved, strict=True))
        yield Outcome(identifier, released=True, words=f"{told}; source {source.name}, verified by {proof}")


def _refused(held: Held, source: Source | None) -> str:
    if source is None:
        return f"no source has its path, and there is no source {held.source!r}: give its path to one"
    if held.method not in source.adapter.METHODS:
        return f"source {source.name!r} takes no {held.method}"
    if not held.whole:
        return f"only {len(held.body)} of {held.body_bytes} bytes of its body were kept; raise QUARANTINE_BODY_MAX"
    return ""


def _proof(held: Held, source: Source, delivery: Delivery) -> str:
    if not source.secrets:
        raise BadSignature(f"source {source.name!r} has no secret")
    return proven_by(source, delivery, held.received_at.timestamp())


async def _store(dsn: str, source: Source, delivery: Delivery, events: list[Identity]) -> list[Saved]:
    store = Store(dsn)
    await store.open()
    try:
        return await store.save(source, delivery, events)
    finally:
        await store.close()


def _told(event: Identity, row: Saved) -> str:
    if row.id is None:
        return f"a duplicate of a deleted {event.event_type}"
    return f"a duplicate of event {row.id}" if row.duplicate else f"event {row.id}, {event.event_type}"
