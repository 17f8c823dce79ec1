"""A worker's connection as its handlers are given it: a savepoint is taken with what an event sends first.

An event whose handlers send nothing costs no round trip. One whose handlers send plain statements alone (plain.py)
costs theirs: its savepoint is released with the next one's taking, and what a function may have set on the session is
forgotten at the batch's end. Whatever else is sent, by whatever method, has all of that done at the event's end.

Where they may, a few quick events share a savepoint: an event that fails then undoes those before it, and they are run
again.
"""

import time
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from psycopg.pq.abc import PGresult
from psycopg.rows import tuple_row

from processor.answers import Answers
from processor.event import Event
from processor.plain import Cursor
from sql.connection import done

if TYPE_CHECKING:
    from psycopg._preparing import Prepare
    from psycopg._queries import PostgresQuery

RV = TypeVar("RV")

# A name that no handler gives a savepoint of its own: rolled back to, the inner one of two of a name would hide ours.
SAVEPOINT = b"SAVEPOINT webhook_inbox_event"
RELEASE = b"RELEASE SAVEPOINT webhook_inbox_event"
# Several in one string are one round trip. What a handler set on the session is not for the next one to find.
FORGET = (
    b"RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL; CLOSE ALL; UNLISTEN *; DISCARD TEMP; "
    b"SELECT pg_advisory_unlock_all(); "
)
KEEP = RELEASE + b"; " + FORGET
SHARING = 10  # events that share a savepoint, at most
SHARING_SECONDS = 0.05  # from its taking, after which nobody joins in
UNDO = b"ROLLBACK TO SAVEPOINT webhook_inbox_event; " + KEEP


class Handed(psycopg.Connection[Any]):
    """The same connection as *own*, in a transaction of which its handlers have savepoints.

    pending: the event in hand is to have a savepoint of its own, not taken yet. sent: it has sent something. held: a
    savepoint is still to be released. used: earlier events have sent something since what is left on the session was
    last forgotten. odd: the event in hand has sent something that isn't known to be plain. settings: SQL of the
    transaction's, to be set again after what handlers may have set is undone. prepares: how often a statement is sent
    before it is prepared on the server; None: none ever is.

    lent: a handler may use it; not while its last batch's commit is under way, or another's turn. shares: whether
    events may share a savepoint. sharing: those that have sent something within the one that is held.
    undone: those that were undone with one that failed, and are to be run again. savepoints: how many were taken in
    this transaction.
    """

    def __init__(self, own: psycopg.Connection[Any]) -> None:
        super().__init__(own.pgconn)
        self.own = own
        self.lock = own.lock
        self.settings = b""
        self.prepares: int | None = None
        self.pending = self.sent = self.held = self.used = self.odd = self.shares = self.lent = False
        self.event: Event | None = None
        self.sharing: list[Event] = []
        self.undone: list[Event] = []
        self.savepoints = 0
        self.until = 0.0
        self.answers = Answers(own)
        self._refresh()

    def __del__(self, *_: object) -> None:
        """Leave the connection open: it is another's."""

    def take_undone(self) -> list[Event]:
        """Return what was undone, once."""
        undone, self.undone = self.undone, []
        return undone

    def start(self, settings: bytes, *, shares: bool = False) -> None:
        """Begin with a transaction, which has these settings. shares: whoever asks runs again what is undone."""
        self.settings, self.shares = settings, shares
        self.sent = self.held = self.used = False
        self.pending, self.lent = True, False
        self.sharing, self.undone, self.savepoints = [], [], 0

    def begin(self, event: Event | None = None) -> None:
        """Begin with an event; None: with several, which don't share a savepoint with others."""
        self.event, self.sent, self.odd, self.lent = event, False, False, True
        room = self.held and self.shares and event is not None and 0 < len(self.sharing) < SHARING
        self.pending = not room or time.monotonic() > self.until

    def keep(self) -> None:
        """Keep what an event's handlers wrote. Raises psycopg.Error when they have broken its savepoint."""
        if self.odd:
            self.own.execute(KEEP + self.settings)
            self.held = self.used = False
            self.sharing = []
        elif self.sent:
            self.used = True
            if self.event is not None:
                self.sharing.append(self.event)
        self.pending = False
        self._refresh()

    def undo(self) -> None:
        """Roll back what they wrote, and what *undone* then names besides; from then on no event shares a savepoint.

        Raises psycopg.Error when they have broken the savepoint, or passed it by.
        """
        if self.sent:
            self.own.execute(UNDO + self.settings)
            self.held = self.used = self.shares = False
            self.undone, self.sharing = self.sharing, []
            # As psycopg does after a rollback: what a statement is about may have gone with it.
            self._prepared.clear()
            # Now: psycopg would do it behind the next statement, and lose that where it was prepared just then.
            self.own.wait(self._prepared.maintain_gen(self))
        elif self.pgconn.transaction_status != TransactionStatus.INTRANS:
            raise psycopg.InternalError("a handler failed past its connection, by that's pgconn")
        self.pending = False
        self._refresh()

    def end(self) -> bytes:
        """Return SQL that comes before anything else when no further event is handled in this transaction."""
        held, self.held = self.held, False
        self.pending, self.lent = True, False
        return KEEP + self.settings + b"; " if held else b""

    @property
    def at_once(self) -> bool:
        """Tell whether a plain statement can be sent with nothing before it, and nothing after it."""
        in_transaction = self.pgconn.transaction_status == TransactionStatus.INTRANS
        return in_transaction and not self.pending and not self._prepared._to_flush  # noqa: SLF001 - no other way

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Make a call of any kind that psycopg knows."""
        if self.pending or (self.sharing and not self.sent):
            self.own.wait(self.take())
        self.sent = self.odd = True
        return self.own.wait(gen, interval) if timeout is None else self.own.wait(gen, interval, timeout)

    def commit(self) -> None:
        """Refuse to: that is the batch's to do."""
        raise psycopg.ProgrammingError("a handler must not commit the transaction it was given")

    def rollback(self) -> None:
        """Refuse to; a handler raises."""
        raise psycopg.ProgrammingError("a handler must not roll back the transaction it was given; raise instead")

    def prelude(self) -> list[bytes]:
        """Return the statements that take the savepoint; who asks sends them."""
        if not self.lent:
            raise psycopg.ProgrammingError("a handler must not use a connection that it was given for an earlier event")
        statements = [RELEASE, SAVEPOINT] if self.held else [SAVEPOINT]
        self.pending, self.sent, self.held = False, True, True
        self.savepoints += 1
        self.sharing, self.until = [], time.monotonic() + SHARING_SECONDS
        return statements

    def take(self) -> PQGen[None]:
        """Take the savepoint in a round trip of its own."""
        self.pgconn.send_query(b"; ".join(self.prelude()))
        yield from done(self.pgconn)

    def count(self, pgq: "PostgresQuery", prepared: "Prepare", name: bytes, results: list[PGresult]) -> None:
        """Have psycopg know that a statement was sent, so that it is prepared when it is time to."""
        key = self._prepared.maybe_add_to_cache(pgq, prepared, name)
        if key is not None:
            self._prepared.validate(key, prepared, name, results)

    def _refresh(self) -> None:
        """Undo what handlers set on our side of the connection."""
        self.row_factory = tuple_row
        self.cursor_factory = Cursor
        self.prepare_threshold = self.prepares
