"""benchmarks/drain.py, latency.py and claim_cost.py in small: they count what was done; no times are asserted."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from benchmarks import claim_cost, drain, latency, pgbench
from benchmarks.drain_handlers import TAKES_BATCHES
from benchmarks.jobs import DRAINED, UPSERT, Marks, carried, numbered
from benchmarks.queues import PEERS, PEERS_ONLY, QUEUES, Queue
from benchmarks.rounds import Missing
from benchmarks.routes import PEER_ROUTES
from benchmarks.server import url
from tests.processes import DEADLINE
from tests.test_benchmarks import measured

__all__ = ["measured"]

SMALL = ("--rounds", "1", "--seconds")
HAS_PEERS = (PEERS / "node_modules" / "pg-boss").exists() and all(
    map(find_spec, ("fastapi", "uvloop", "httptools", "pgqueuer", "asyncpg", "procrastinate", "celery"))
)
only_with_peers = pytest.mark.skipif(not HAS_PEERS, reason="needs the extra bench and npm ci --prefix benchmarks/peers")
OURS = ["ours", "ours, 2 workers", *["ours, batch handler"] * TAKES_BATCHES]


@pytest.mark.parametrize("name", OURS)
def test_drain_counts_what_our_workers_wrote(measured, name):
    tables, _ = measured(drain, "--events", "200", *SMALL, "60", "--kind", "upsert", "--only", name)

    assert tables["200 waiting, a handler with one upsert"][name]["done"] == 200


def test_drain_tells_where_each_of_our_microseconds_is_spent(measured):
    tables, printed = measured(drain, "--events", "200", *SMALL, "60", "--kind", "nothing", "--only", "ours")

    row = tables["200 waiting, a handler that does nothing"]["ours"]
    assert row.keys() >= {"events/s", "worker", "PostgreSQL"}
    assert "fsync on" in printed


def test_where_tells_what_each_step_takes(dsn):
    said = subprocess.run(  # a process of its own, since it puts timers into our classes
        [sys.executable, "-m", "benchmarks.where", "--events", "60"],
        env={**os.environ, "DATABASE_URL": dsn}, capture_output=True, text=True, check=True, timeout=DEADLINE,
    ).stdout  # fmt: skip

    steps = {line.partition("µs an event")[2].strip() for line in said.splitlines()}
    assert steps >= {"said to be about to run, and read", "the handler's call", "all else"}


@only_with_peers
@pytest.mark.parametrize("peer", PEERS_ONLY)
def test_drain_counts_what_a_peer_wrote(measured, peer):
    tables, _ = measured(drain, "--events", "200", *SMALL, "60", "--kind", "upsert", "--only", peer)

    assert tables["200 waiting, a handler with one upsert"][peer]["done"] == 200


def test_a_queue_that_is_done_without_its_effects_ends_the_benchmark(server_dsn, tmp_path, monkeypatch):
    marking = "from benchmarks.jobs import marks; marks.called(10)"
    queue = Queue(["python", "-c", marking], {}, lambda: 0)

    class Filled:
        def __enter__(self):
            return queue

        def __exit__(self, *_):
            pass

    monkeypatch.setitem(QUEUES, "ours", lambda *_: Filled())

    with pytest.raises(SystemExit, match="ours: expected 10 effects, got 0"):
        drain.Drain(server_dsn, tmp_path, 10, 60).measure("ours", "upsert")


def test_latency_times_our_deliveries_to_their_effects(measured, monkeypatch):
    monkeypatch.setattr(latency, "WARM_UP", 2)
    (table,) = measured(latency, "--rate", "50", *SMALL, "0.2", "--only", "ours")[0].values()

    assert table["ours"]["count"] == 10
    assert table["ours"]["median"] > 0


@only_with_peers
@pytest.mark.parametrize("peer", PEER_ROUTES)
def test_latency_times_a_peers(measured, peer, monkeypatch):
    monkeypatch.setattr(latency, "WARM_UP", 2)
    (table,) = measured(latency, "--rate", "50", *SMALL, "0.2", "--only", peer)[0].values()

    assert table[peer]["count"] == 10


def test_claim_cost_tells_of_claims_and_of_inserts(measured, fresh_dsn, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", fresh_dsn)
    monkeypatch.setattr(claim_cost, "FOLLOWERS", 1000)
    monkeypatch.setattr(claim_cost, "COMPLETED", 500)
    monkeypatch.setattr(claim_cost, "PORTION", 150)

    tables, _ = measured(claim_cost, "--pending", "500", "--processed", "200", *SMALL, "1")

    assert len(tables["Claims"]) == 5
    last = "500 pending, 200 processed"
    assert last in tables["Claims"]
    try:
        pgbench.program()
    except Missing:
        return
    assert tables["Inserts"].keys() == {"no history", last}


def test_no_more_history_is_stored_once_its_time_is_over(db):
    assert claim_cost.remember(db, 10, 0) == 0


def test_five_jobs_have_one_subject():
    subjects = [carried(number)["subject"] for number in range(100)]

    assert {subjects.count(subject) for subject in subjects} == {5}


def test_the_first_and_the_last_call_are_marked(tmp_path):
    marks = Marks(str(tmp_path / "marks"), 3)

    for number in (1, 1, 1, 1):
        marks.called(number)

    assert [line.split()[0] for line in Path(marks.path).read_text().splitlines()] == ["first", "last"]
    assert 0 < drain.mark(Path(marks.path), "first") <= drain.mark(Path(marks.path), "last")


def test_node_writes_what_python_does():
    script = (PEERS / "jobs.js").read_text()

    assert " ".join(numbered(UPSERT).split()) in " ".join(script.split())
    assert DRAINED.startswith("CREATE TABLE drained (subject")


def test_a_url_leads_where_the_keywords_do(server_dsn):
    dsn = make_conninfo(server_dsn, dbname="postgres")

    with psycopg.connect(url(dsn)) as one, psycopg.connect(dsn) as other:
        assert (one.info.host, one.info.port, one.info.dbname) == (other.info.host, other.info.port, other.info.dbname)
