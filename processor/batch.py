"""A batch: one transaction's events, what became of them, and the end that commits it or leaves nothing of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
from psycopg import ClientCursor
from psycopg.pq.abc import PGresult

from processor.attempt import Refused
from processor.outcome import Outcome
from processor.record import mark_failed, mark_processed
from processor.session import Session
from sql import load


@dataclass
class Batch:
    """What became of a batch's events.

    run_id: its number, once it is claimed.
    idle: none was due, as far as was looked; all_seen: and that was to the end; blocked: but some must wait their turn.
    quick: its handlers took no time to speak of.
    full: as many as were asked for were due, and all are done: it is likely that there are more.
    asked: so many events were asked for with its COMMIT, for the batch after the next.
    spent: few were due, and all are done; another claim would hardly find any.
    """

    session: Session
    run_id: int = 0
    outcomes: list[Outcome] = field(default_factory=list)
    idle: bool = False
    all_seen: bool = False
    blocked: bool = False
    quick: bool = False
    full: bool = False
    asked: int = 0
    spent: bool = False

    @contextmanager
    def left_where_it_fails(self) -> Iterator[None]:
        """Leave nothing of the batch where what is done within fails, and say that it ended without anybody's death."""
        try:
            yield
        except BaseException as error:
            if isinstance(error, psycopg.Error | Refused):
                self.session.give_up(self.run_id)
            self.session.roll_back()
            raise

    @contextmanager
    def or_nothing(self) -> Iterator[None]:
        """As left_where_it_fails, for what the batch's own events may be to blame for.

        Raises Refused, which names them, and psycopg.Error for the claim's error or the connection's.
        """
        try:
            with self.left_where_it_fails():
                yield
        except Refused as error:
            if error.shared:
                error.events = [outcome.event for outcome in self.outcomes] + error.events
            raise
        except psycopg.Error as error:
            if not self.outcomes or self.session.conn.closed:
                raise
            raise Refused([outcome.event for outcome in self.outcomes], error) from error

    def send_end(self, then: bytes = b"") -> None:
        """Record what became of the events, and send the COMMIT, whose answer is to be waited for.

        then: SQL that is sent with it, for after it. Raises psycopg.Error.
        """
        conn, ending = self.session.conn, self.session.handed.end()
        failures = [outcome for outcome in self.outcomes if not outcome.done]
        if failures and ending:
            conn.execute(ending)
            ending = b""
        for outcome in failures:
            mark_failed(conn, outcome)
        ending += mark_processed(conn, self.outcomes)
        # What a commit would check is checked where its refusal can still be told from our death, and in the same
        # string: it ends where that fails. Bound by the client, several statements are one round trip.
        ending += ClientCursor(conn).mogrify(load("end_run"), {"run_id": self.run_id}).encode()
        self.session.send(ending + b"COMMIT; " + then)

    def answered(self) -> list[PGresult]:
        """Wait until the batch is committed; return what came of the statements after that. Raises as or_nothing."""
        with self.or_nothing():
            results = self.session.answered()
            for place, result in enumerate(results):
                if result.command_status == b"COMMIT":
                    return results[place + 1 :]
            raise psycopg.errors.error_from_result(results[-1])
