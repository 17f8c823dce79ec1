"""What HTTP alone does not show: the items of our own, each a statement about one build that is true or not."""

import logging
from collections.abc import Callable
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta

import psycopg

from handlers import calls
from handlers.providers import call_event
from processor import on, registry
from processor.loop import Processor
from receiver.conformance.trial import LATER
from receiver.outage.spool import Spool
from tests.faults.volume import NoVolume, volume
from tests.flawed.bench import Bench
from tests.inbox import make_due
from tests.processes import wait_for
from tests.receiver_fixtures import TOKEN

SPOOL = "slot-0.db"
CHECKS: dict[str, Callable[[Bench], bool]] = {}


def check(name):
    def register(function):
        CHECKS[name] = function
        return function

    return register


@check("attempted again")
def attempted_again(bench):
    """An event whose handler failed is attempted again, and has its effect then."""
    failures = iter([ConnectionError("crm is down")])

    def fail_once(event, conn):
        if failure := next(failures, None):
            raise failure
        have_effect(event, conn)

    subject = bench.deliver(1)
    with handling("call.ringing", fail_once):
        work(bench)
        make_due(bench.conn)
        work(bench)
    # At the receiver it was had before the handler failed, and that is another item's.
    return bench.conn.execute("SELECT 1 FROM effects WHERE subject = %s", [subject]).fetchone() is not None


@check("one effect")
def one_effect(bench):
    """An event that is delivered twice has one effect."""
    subject = bench.deliver(2)
    with handling("call.ringing", have_effect):
        work(bench)
    return bench.conn.execute("SELECT count(*) FROM effects WHERE subject = %s", [subject]).fetchone() == (1,)


@check("stored before the 2xx")
def stored_before_the_2xx(bench):
    """A delivery that the database does not take now is not acknowledged."""
    with bench.impatient() as trial, psycopg.connect(bench.dsn) as holder:
        trial.send(trial.signed())  # the receiver has its connections
        holder.execute("LOCK TABLE webhook_events IN ACCESS EXCLUSIVE MODE")
        return not trial.send(trial.signed()).good


@check("state of the call")
def state_of_the_call(bench):
    """A call whose end is told before its beginning has ended."""
    trial, now = bench.twilio, datetime.now(UTC)
    subject = trial.new_subject()
    for event_type, at in ((LATER, now), ("call.ringing", now - timedelta(seconds=9))):
        delivery = trial.signed(trial.body(event_type, subject, at))
        assert trial.send(delivery).good
        wait_for(lambda: bench.is_stored(subject))
    with handling("call.ringing", keep, LATER):
        work(bench)
    return bench.conn.execute("SELECT state FROM calls WHERE call_id = %s", [subject]).fetchone() == ("completed",)


@check("silent log")
def silent_log(bench):
    """Nothing that is secret, and nothing of a body, is in a log line."""
    trial = bench.twilio
    genuine, forged = trial.signed(), trial.forged()
    with lines() as logged:
        for delivery in (genuine, forged):
            trial.send(delivery)
    proofs = [delivery.headers["x-twilio-signature"] for delivery in (genuine, forged)]
    told = "\n".join(logged)
    return not any(secret in told for secret in [TOKEN, *proofs, "5555550100", "AccountSid"])


@check("power cut")
def power_cut(bench):
    """What the spool took is there after a power cut; where none can be made, SQLite says that it syncs."""
    try:
        return next(left for _ in range(10) if (left := left_after_a_cut()) is not None) == 1
    except NoVolume:
        with closing(spool_with_one(bench.directory)) as spool:
            assert spool.conn
            return spool.conn.execute("PRAGMA synchronous").fetchone() == (2,)


def left_after_a_cut():
    """Return how many deliveries of one are left; None where the volume stays dark.

    It does in a mount namespace that another process has made of ours meanwhile.
    """
    with volume(32 << 20) as disk:
        with closing(spool_with_one(disk.path)):
            disk.cut()
        disk.restore()
        with closing(Spool(disk.path / SPOOL)) as spool:
            return spool.deliveries if spool.conn else None


def spool_with_one(directory):
    spool = Spool(directory / SPOOL)
    spool.append([(0.0, {"event_id": "1", "occurred_at": None, "body": b"{}"}, False)])
    return spool


def have_effect(event, conn):
    conn.execute("INSERT INTO effects VALUES (%s)", [event.subject])


def keep(event, conn):
    calls.keep(event, call_event(event), conn)


def work(bench):
    """Do what is due, as `processor run --once` does."""
    Processor(lambda: psycopg.connect(bench.dsn, autocommit=True)).run(0.05, once=True)


@contextmanager
def handling(event_type, function, *more):
    """Have one handler, and no other, for these types."""
    before = registry.HANDLERS[:]
    registry.HANDLERS.clear()
    try:
        on(event_type, *more)(function)
        yield
    finally:
        registry.HANDLERS[:] = before


class Noting(logging.Handler):
    """Adds each line to a list."""

    def __init__(self, found):
        super().__init__()
        self.found = found

    def emit(self, record):
        self.found.append(record.getMessage())


@contextmanager
def lines():
    """Yield a list that every log line is added to."""
    found: list[str] = []
    handler, root = Noting(found), logging.getLogger()
    ours, level = logging.getLogger("receiver"), logging.getLogger("receiver").level
    ours.setLevel(logging.DEBUG)
    root.addHandler(handler)
    try:
        yield found
    finally:
        root.removeHandler(handler)
        ours.setLevel(level)
