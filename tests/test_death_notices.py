"""Whatever an event dies of, the processor's log says so in one line that names it."""

import os
import subprocess
import sys

import psycopg
import pytest

from processor import registry
from processor.loop import Processor
from processor.registry import on
from tests.inbox import add, look
from tests.processes import DEADLINE, wait_for

LOOK = "dead_at IS NOT NULL"


@pytest.mark.parametrize(
    ("kind", "module", "notice"),
    [
        ("poison.exit", "tests.poison_handlers", "cause=Crash"),
        ("poison.loop", "tests.poison_handlers", "attempt=2 cause=Timeout"),
        ("poison.kill", "tests.outside_handlers", "cause=Crash"),
    ],
)
def test_an_event_that_died_with_its_worker(fresh_dsn, tmp_path, kind, module, notice):
    with psycopg.connect(fresh_dsn, autocommit=True) as conn:
        event = add(conn, kind, attempts=int(kind == "poison.loop"))
        with subprocess.Popen(
            [sys.executable, "-m", "processor", "run", "--interval", "0.05", "--handlers", module],
            env={**os.environ, "DATABASE_URL": fresh_dsn, "OUTSIDE_NOTES": str(tmp_path / "notes")},
            stderr=subprocess.PIPE, text=True,
        ) as running:  # fmt: skip
            try:
                wait_for(lambda: look(conn, event, LOOK) == (True,))
            finally:
                running.terminate()
                _, told = running.communicate(timeout=DEADLINE)

    assert [line.split(f"event dead id={event} ")[1] for line in told.splitlines() if "event dead" in line] == [notice]


def test_an_event_that_died_of_its_commit(db, dsn, caplog, monkeypatch):
    monkeypatch.setattr(registry, "HANDLERS", [])
    on("call.ringing", max_attempts=1)(lambda event, conn: conn.execute("COMMIT"))
    event = add(db)

    Processor(lambda: psycopg.connect(dsn, autocommit=True)).run(0.05, once=True)

    assert look(db, event, LOOK) == (True,)
    (notice,) = [line for line in caplog.messages if line.startswith("event dead")]
    assert notice == f"event dead id={event} type=call.ringing attempt=1 cause=InvalidTransactionTermination"
