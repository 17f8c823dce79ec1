"""Plain statements, and the cursor that sends an event's first one in the same round trip as its savepoint.

A plain statement reads or writes rows and leaves nothing on the session; few handlers send another. What isn't known
to be plain goes the general way, by Handed.wait, to the same effect in more round trips. A test holds one to the other.
"""

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Self, cast

import psycopg
from psycopg import generators
from psycopg.abc import Params, PQGen, Query
from psycopg.adapt import Transformer
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.rows import Row

if TYPE_CHECKING:
    from psycopg._queries import PostgresQuery

    from processor.handed import Handed

GAP = r"(?:\s|--[^\n]*(?:\n|$))*"
BEGINNING = re.compile(rf"{GAP}(?:select|insert|update|delete|merge|values|with)\b", re.IGNORECASE)
END = re.compile(rf";{GAP}$")
# A second statement; SELECT INTO, which makes a table; by their names, functions that leave something or end somebody.
SUSPICIOUS = re.compile(r";|(?<!insert )(?<!merge )\binto\b|set_config|advisory|dblink|backend", re.IGNORECASE)
LONGEST = 10_000  # characters of a statement that is looked at, and remembered
# The cursor does as psycopg's own does within: not in a version in which nobody has tried it.
TRIED = psycopg.__version__.startswith(("3.2.", "3.3."))


def is_plain(query: Query) -> bool:
    """Tell whether a statement is known to be plain."""
    return TRIED and isinstance(query, str | bytes) and len(query) <= LONGEST and _is_plain(query)


@lru_cache(maxsize=512)
def _is_plain(query: str | bytes) -> bool:
    text = query if isinstance(query, str) else query.decode("utf-8", "replace")
    return bool(BEGINNING.match(text)) and not SUSPICIOUS.search(END.sub("", text))


class Cursor(psycopg.Cursor[Row]):
    """A handler's cursor."""

    __slots__ = ()

    def execute(
        self, query: Query, params: Params | None = None, *, prepare: bool | None = None, binary: bool | None = None
    ) -> Self:
        """Do as psycopg's does."""
        handed = cast("Handed", self.connection)
        if handed.pgconn.pipeline_status or not is_plain(query):
            return super().execute(query, params, prepare=prepare, binary=binary)  # type: ignore[arg-type, misc]
        try:
            with handed.lock:
                if handed.at_once and not self.closed:
                    self._execute(handed, query, params, prepare=prepare, binary=binary)
                else:
                    handed.own.wait(self._execute_gen(query, params, prepare=prepare, binary=binary))
        except psycopg.Error as error:
            raise error.with_traceback(None)  # noqa: B904 - the same, as psycopg does
        return self

    def _execute(
        self, handed: "Handed", query: Query, params: Params | None, *, prepare: bool | None, binary: bool | None
    ) -> None:
        """Do as _execute_gen does in a transaction, without a generator's steps for each answer."""
        handed.sent = True
        self._reset()
        if self._last_query is not query:
            self._last_query = None
            self._tx = Transformer(self)
        pgq = self._convert_query(query, params)
        prepared, name = self._get_prepared(pgq, prepare)
        if prepared.name == "SHOULD":
            handed.own.wait(super()._maybe_prepare_gen(pgq, prepare=prepare, binary=binary))
        else:
            if prepared.name == "NO":
                self._execute_send(pgq, binary=binary)
            else:
                self._send_query_prepared(name, pgq, binary=binary)
            results = handed.answers.results()
            handed.count(pgq, prepared, name, results)
            self._check_results(results)
            self._set_results(results)
        self._last_query = query

    def _maybe_prepare_gen(
        self, pgq: "PostgresQuery", *, prepare: bool | None = None, binary: bool | None = None
    ) -> PQGen[None]:
        handed = cast("Handed", self.connection)
        prepared, name = self._get_prepared(pgq, prepare)
        if not handed.pending or prepared.name == "SHOULD":  # it is prepared now: a round trip of its own
            if handed.pending:
                yield from handed.take()
            handed.sent = True
            yield from super()._maybe_prepare_gen(pgq, prepare=prepare, binary=binary)
            return
        pgconn, before = handed.pgconn, handed.prelude()
        pgconn.enter_pipeline_mode()
        for statement in before:
            pgconn.send_query_params(statement, None)
        if prepared.name == "NO":
            self._execute_send(pgq, force_extended=True, binary=binary)
        else:
            self._send_query_prepared(name, pgq, binary=binary)
        pgconn.pipeline_sync()
        results = yield from _results(pgconn, len(before) + 1)
        handed.count(pgq, prepared, name, results)
        self._check_results(results)
        self._set_results(results)


def _results(pgconn: PGconn, sent: int) -> PQGen[list[PGresult]]:
    """Return what the last of so many commands came to, or the first that failed, and leave the pipeline mode."""
    yield from generators.send(pgconn)
    answers: list[list[PGresult]] = []
    try:
        for _ in range(sent + 1):  # the last is the pipeline's end
            answers.append((yield from generators.fetch_many(pgconn)))  # noqa: PERF401 - no comprehension may yield
    except psycopg.OperationalError:
        if not answers or answers[-1][-1].status != ExecStatus.FATAL_ERROR:
            raise
        # Else the server has said why it ends the connection.
    if pgconn.status != ConnStatus.BAD:
        pgconn.exit_pipeline_mode()
    for results in answers:
        if results[-1].status == ExecStatus.FATAL_ERROR:
            return results
    return answers[sent - 1]
