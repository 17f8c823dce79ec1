"""A worker's connection as its handlers are given it: each event in a savepoint, taken with what it sends first.

An event whose handlers send nothing costs no round trip. One whose handlers send plain statements alone (plain.py)
costs theirs: its savepoint is released with the next one's taking, and what a function may have set on the session is
forgotten at the batch's end. Whatever else is sent, by whatever method, has all of that done at the event's end.
"""

from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from processor.plain import Cursor
from sql.connection import done

if TYPE_CHECKING:
    from psycopg._preparing import Prepare
    from psycopg._queries import PostgresQuery
    from psycopg.pq.abc import PGresult

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
UNDO = b"ROLLBACK TO SAVEPOINT webhook_inbox_event; " + KEEP


class Handed(psycopg.Connection[Any]):
    """The same connection as *own*, in a transaction of which its handlers have a savepoint an event.

    pending: the event in hand has no savepoint yet. held: an earlier one's is still to be released. used: earlier
    ones have sent something since what is left on the session was last forgotten. odd: the event in
    hand has sent something that isn't known to be plain; strayed: so has one since the transaction began. settings: SQL
    of the transaction's, to be set again after what handlers may have set is undone. prepares: how often a statement is
    sent before it is prepared on the server; None: none ever is.
    """

    def __init__(self, own: psycopg.Connection[Any]) -> None:
        super().__init__(own.pgconn)
        self.own = own
        self.lock = own.lock
        self.settings = b""
        self.prepares: int | None = None
        self.pending = self.held = self.used = self.odd = self.strayed = False
        self._refresh()

    def __del__(self, *_: object) -> None:
        """Leave the connection open: it is another's."""

    def start(self, settings: bytes) -> None:
        """Begin with a transaction, which has these settings."""
        self.settings = settings
        self.pending = self.held = self.used = self.strayed = False

    def begin(self) -> None:
        """Begin with an event."""
        self.pending, self.odd = True, False

    def keep(self) -> None:
        """Keep what an event's handlers wrote. Raises psycopg.Error when they have broken its savepoint."""
        if self.odd:
            self.own.execute(KEEP + self.settings)
            self.held = self.used = False
        elif not self.pending:
            self.held = self.used = True
        self.pending = False
        self._refresh()

    def undo(self) -> None:
        """Roll back what they wrote. Raises psycopg.Error when they have broken the savepoint, or passed it by."""
        if not self.pending:
            self.own.execute(UNDO + self.settings)
            self.held = self.used = False
            # As psycopg does after a rollback: what a statement is about may have gone with it.
            self._prepared.clear()
        elif self.pgconn.transaction_status != TransactionStatus.INTRANS:
            raise psycopg.InternalError("a handler failed past its connection, by that's pgconn")
        self.pending = False
        self._refresh()

    def end(self) -> bytes:
        """Return SQL that comes before anything else when no further event is handled in this transaction."""
        held, self.held = self.held, False
        return KEEP + self.settings + b"; " if held else b""

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Make a call of any kind that psycopg knows."""
        if self.pending:
            self.own.wait(self.take())
        self.odd = self.strayed = True
        return self.own.wait(gen, interval) if timeout is None else self.own.wait(gen, interval, timeout)

    def commit(self) -> None:
        """Refuse to: that is the batch's to do."""
        raise psycopg.ProgrammingError("a handler must not commit the transaction it was given")

    def rollback(self) -> None:
        """Refuse to; a handler raises."""
        raise psycopg.ProgrammingError("a handler must not roll back the transaction it was given; raise instead")

    def prelude(self) -> list[bytes]:
        """Return the statements that take the savepoint; who asks sends them."""
        statements = [RELEASE, SAVEPOINT] if self.held else [SAVEPOINT]
        self.pending = self.held = False
        return statements

    def take(self) -> PQGen[None]:
        """Take the savepoint, if that is still to be done, in a round trip of its own."""
        if self.pending:
            self.pgconn.send_query(b"; ".join(self.prelude()))
            yield from done(self.pgconn)

    def count(self, pgq: "PostgresQuery", prepared: "Prepare", name: bytes, results: "list[PGresult]") -> None:
        """Have psycopg know that a statement was sent, so that it is prepared when it is time to."""
        key = self._prepared.maybe_add_to_cache(pgq, prepared, name)
        if key is not None:
            self._prepared.validate(key, prepared, name, results)

    def _refresh(self) -> None:
        """Undo what handlers set on our side of the connection."""
        self.row_factory = tuple_row
        self.cursor_factory = Cursor
        self.prepare_threshold = self.prepares
