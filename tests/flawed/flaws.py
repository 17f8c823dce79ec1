"""Eleven ways to build this wrong, each a small patch of our own code, and which items show it.

Each is what one writes who has not thought of it. A patch gets pytest's monkeypatch and a connection to the build's own
database; it is applied before the receiver starts.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from uuid import uuid4

import psycopg
from pytest import MonkeyPatch  # noqa: PT013 - a type
from starlette.exceptions import HTTPException

import handlers.rows
import receiver.insert
import receiver.lanes
import receiver.outage.file
import receiver.store
import sql
from processor.batch import Batch
from processor.claim import read
from processor.loop import Processor
from processor.outcome import Outcome
from processor.record import record
from receiver.door import Door
from receiver.insert import Saved
from receiver.providers import agent, standard_webhooks, twilio
from receiver.reading import Unparseable, read_object
from receiver.store import Store
from tests.flawed import checks

Connection = psycopg.Connection


@dataclass(frozen=True)
class Flaw:
    """A wrong build. fails: the items that must show it; by_chance: those that may, where it is a race.

    source: the one that the conformance list plays.
    """

    patch: Callable[[MonkeyPatch, Connection], None]
    fails: frozenset[str]
    by_chance: frozenset[str] = field(default=frozenset())
    source: str = "standard"


FLAWS: dict[str, Flaw] = {}


def flaw(*fails: str, by_chance: str = "", source: str = "standard"):
    def register(patch: Callable[[MonkeyPatch, Connection], None]):
        name = patch.__name__.replace("_", " ")
        FLAWS[name] = Flaw(patch, frozenset(fails), frozenset(by_chance.split()), source)
        return patch

    return register


@flaw("C2", "C3", "C22", "C34", "C36", "one effect")
def no_deduplication(patch, conn):
    """Every delivery is an event."""
    for provider in (agent, twilio):

        def identify(delivery, options, real=provider.identify):
            return [replace(event, event_id=str(uuid4())) for event in real(delivery, options)]

        patch.setattr(provider, "identify", identify)


@flaw("C3", by_chance="C34")
def check_then_insert(patch, conn):
    """Look whether the key is there, and insert it if not: two at once both find nothing."""
    real, clause = receiver.insert.insert, b"ON CONFLICT (source, event_id) DO NOTHING"
    statement = sql.load("insert_event")
    assert clause in statement
    unsure = statement.replace(clause, b"")
    patch.setattr(receiver.insert, "load", lambda name: unsure if name == "insert_event" else sql.load(name))

    async def insert(conn, row, **more):
        look = "SELECT id FROM webhook_events WHERE source = %(source)s AND event_id = %(event_id)s"
        if found := await (await conn.execute(look, row)).fetchone():
            return Saved(found[0], duplicate=True)
        await asyncio.sleep(0.03)
        return await real(conn, row, **more)

    patch.setattr(receiver.store, "insert", insert)
    patch.setattr(receiver.lanes, "ROWS_MAX", 1)  # who does not think of two at once sends each by itself
    patch.setattr(receiver.lanes, "LATE", 0.0)


@flaw("attempted again")
def mark_first(patch, conn):
    """Mark an event processed, commit, and then run its handler."""

    def batch(self, session, most):
        with session.conn.transaction():
            session.conn.execute(self._settings)
            claimed = self.claim(session, most)
            events = read(session.conn, claimed.ids)
            record(session.conn, [Outcome(event, "handled", seconds=0.0) for event in events])
            session.conn.execute(sql.load("end_run"), {"run_id": claimed.run_id})
        with session.conn.transaction():
            outcomes = [
                self.watched.attempt(session.handed, [event], (claimed.run_id, claimed.backend, 0))[0]
                for event in events
            ]
        return Batch(session, outcomes=outcomes, idle=not events, all_seen=not events)

    patch.setattr(Processor, "batch", batch)


@flaw("stored before the 2xx")
def ack_before_commit(patch, conn):
    """Answer, and let the commit follow."""
    real, under_way = Store.save, set()

    async def save(self, source, delivery, events):
        saving = asyncio.create_task(real(self, source, delivery, events))
        under_way.add(saving)
        saving.add_done_callback(lambda done: done.cancelled() or done.exception())
        return [Saved(0, duplicate=False) for _ in events]

    patch.setattr(Store, "save", save)


@flaw("C13")
def parse_before_verify(patch, conn):
    """Refuse what is no JSON before asking who sent it."""
    real = Door._authenticate

    def authenticate(self, source, delivery):
        if source and source.provider == "agent":
            try:
                read_object(delivery.body)
            except Unparseable:
                raise HTTPException(400) from None
        return real(self, source, delivery)

    whole = Door._receive

    async def receive(self, *request):
        try:
            return await whole(self, *request)
        except HTTPException as error:
            return self._refuse(None, error.status_code, "not JSON")

    patch.setattr(Door, "_authenticate", authenticate)
    patch.setattr(Door, "_receive", receive)


@flaw("C9", "C10", "C13")
def stale_accepted(patch, conn):
    """Verify the signature, and not the time that it signs."""
    patch.setattr(standard_webhooks, "check_timestamp", lambda *_: None)


@flaw("one effect")
def effect_before_deduplication(patch, conn):
    """Do what an event asks for as it comes in, and then see whether it was there."""
    real = Store.save

    async def save(self, source, delivery, events):
        for event in events:
            conn.execute("INSERT INTO effects VALUES (%s)", [event.subject])
        return await real(self, source, delivery, events)

    patch.setattr(Store, "save", save)
    patch.setattr(checks, "have_effect", lambda event, conn: None)


@flaw("state of the call")
def order_assuming(patch, conn):
    """Take the last event that came for the last that happened."""

    def change(ranks, old, state, occurred_at, event):
        return "noted" if state is None else "created" if old is None else "moved"

    patch.setattr(handlers.rows, "change", change)


@flaw("silent log")
def logs_secrets(patch, conn):
    """Log each request, to be able to look into it."""
    real = Door._authenticate

    def authenticate(self, source, delivery):
        logging.getLogger("receiver").info("delivery headers=%s body=%s", dict(delivery.headers), delivery.body)
        return real(self, source, delivery)

    patch.setattr(Door, "_authenticate", authenticate)


@flaw("C32", source="twilio")
def call_sid_only_key(patch, conn):
    """Take the call for the event."""
    real = twilio.identify

    def identify(delivery, options):
        return [replace(event, event_id=event.subject or event.event_id) for event in real(delivery, options)]

    patch.setattr(twilio, "identify", identify)


@flaw("power cut")
def spool_without_fsync(patch, conn):
    """Leave it to the system when the spool's pages reach the disk."""
    settings = receiver.outage.file.SETTINGS
    assert "synchronous = FULL" in settings
    patch.setattr(receiver.outage.file, "SETTINGS", settings.replace("synchronous = FULL", "synchronous = OFF"))
