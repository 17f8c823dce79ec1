"""The claim: which due events a worker gets, locked by its transaction."""

from dataclasses import dataclass

from psycopg import ClientCursor, Connection
from psycopg.adapt import Transformer
from psycopg.pq import Format
from psycopg.pq.abc import PGresult

from processor.arrays import array
from processor.cursor import Cursor
from processor.event import Event
from processor.registry import Kind
from sql import load
from sql.connection import done

PREFIX = 20  # events of a subject at most
READ = load("read_claimed").replace(b"%(ids)s", b"$1")


@dataclass(frozen=True)
class Scope:
    """Which events a processor takes; None: all. shut: the kinds that it doesn't."""

    sources: list[str] | None = None
    types: list[str] | None = None
    shut: tuple[Kind, ...] = ()


@dataclass(frozen=True)
class Claimed:
    """What a claim came to.

    most: as many were asked for. run_id, backend: the run's number and the server's process. ids: in the order they are
    to be run.
    all_seen: there was no more, as far as the oldest event.
    more: nothing was found, and it was not looked to the end. blocked: some are due, but are somebody else's turn.
    """

    most: int
    run_id: int
    backend: int
    ids: list[int]
    all_seen: bool
    more: bool
    blocked: bool


def claim(  # noqa: PLR0913 - three are the claim's own
    conn: Connection, most: int, scope: Scope, cursor: Cursor, prefix: int = PREFIX, *, before: bytes = b""
) -> Claimed:
    """Claim at most so many due events of this scope for the transaction in hand, of a subject at most *prefix*.

    Looks from the cursor on, and moves it. before: SQL that is sent with it. Raises psycopg.Error.
    """
    conn.pgconn.send_query(before + asking(conn, most, scope, cursor, prefix))
    return claimed(conn, conn.wait(done(conn.pgconn))[-1], most, cursor)


def asking(conn: Connection, most: int, scope: Scope, cursor: Cursor, prefix: int = PREFIX) -> bytes:
    """Return SQL that claims as claim does, for who sends it with other statements and reads its answer later."""
    cursor.begin()
    types, providers, sources = zip(*scope.shut, strict=True) if scope.shut else (None, None, None)
    names = {
        "batch": most,
        "sources": scope.sources,
        "types": scope.types,
        "shut_types": types and list(types),
        "shut_providers": providers and list(providers),
        "shut_sources": sources and list(sources),
        "prefix": prefix,
        "after_at": cursor.after_at,
        "after_id": cursor.after_id,
    }
    # Bound by the client, several statements are one round trip.
    return ClientCursor(conn).mogrify(load("claim"), names).encode()


def claimed(conn: Connection, answer: PGresult, most: int, cursor: Cursor) -> Claimed:
    """Return what the answer to a claim of so many says, and move the cursor."""
    transformer = Transformer(conn)
    transformer.set_pgresult(answer)
    row = dict(zip(_columns(answer), transformer.load_row(0, tuple) or (), strict=True))
    all_seen = cursor.end(row.pop("after_at"), row.pop("after_id"), more=row["more"])
    return Claimed(most, all_seen=all_seen, **row)


def read(conn: Connection, ids: list[int]) -> list[Event]:
    """Return these events as their coming attempt has them, in the order of their ids; without those that are gone."""
    ask(conn, ids)
    return answered(conn)


def ask(conn: Connection, ids: list[int]) -> None:
    """Send what reads these events, and don't wait: answered() takes them in."""
    # Binary: a body comes as it is, not as twice as many hexadecimal digits.
    conn.pgconn.send_query_params(READ, [array(ids).encode()], result_format=Format.BINARY)


def answered(conn: Connection) -> list[Event]:
    """Return the events that were asked for. Raises psycopg.Error."""
    (answer,) = conn.wait(done(conn.pgconn))
    transformer = Transformer(conn)
    transformer.set_pgresult(answer)
    names = _columns(answer)
    return transformer.load_rows(0, answer.ntuples, lambda values: Event.of(zip(names, values, strict=True)))


def _columns(answer: PGresult) -> list[str]:
    return [(answer.fname(place) or b"").decode() for place in range(answer.nfields)]
