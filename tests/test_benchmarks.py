"""The benchmarks in small: they run, count what was stored, leave tables, JSON and a chart; no times are asserted."""

import json
import re
from functools import partial
from importlib.util import find_spec
from xml.etree import ElementTree as ET

import pytest

from benchmarks import cost, ingest, memory, page, report
from benchmarks.chart import Panel, draw
from benchmarks.doors import DOORS
from benchmarks.report import Table
from benchmarks.rounds import Missing, interleaved

SMALL = ("--rounds", "1", "--seconds", "0.3", "--connections", "4", "--warm-up", "10", "--rate")
PEERS = [name for name in DOORS if name != "ours"]
HAS_PEERS = all(map(find_spec, ("fastapi", "uvloop", "httptools", "pgqueuer", "asyncpg", "procrastinate", "celery")))


@pytest.fixture
def measured(server_dsn, tmp_path, monkeypatch, capsys):
    """Function that runs a benchmark and returns the medians of its tables, by title, and what it printed."""
    monkeypatch.setattr(report, "DIRECTORY", tmp_path)
    monkeypatch.setenv("DATABASE_URL", server_dsn)

    def run(benchmark, *arguments):
        name = benchmark.__name__.rpartition(".")[2]
        benchmark.main.main([*arguments, "--write"], standalone_mode=False)
        found = json.loads((tmp_path / f"{name}.json").read_text())
        ET.parse(tmp_path / f"{name}.svg")
        told = capsys.readouterr()
        return {table["title"]: table["medians"] for table in found["tables"]}, told.out + told.err

    return run


def test_ingest_counts_what_our_receiver_stored_new_again_and_at_fixed_times(measured):
    of_wrk = ("--seconds", "1")  # where it is installed: it takes whole seconds
    tables, printed = measured(ingest, *SMALL, "50", *of_wrk, "--open-seconds", "0.5", "--only", "ours")

    row = tables["Closed loop, 4 connections, 1 KB"]["ours"]
    assert row.keys() >= {"req/s", "p50", "p99", "max", "server", "again", "late"}
    assert {name: row["answers"] for name, row in tables["Open loop, 50/s"].items()} == {
        "ours, 1 KB": 25,
        "ours, 1 KB, 5 % of 600 KB": 25,
        ingest.DISK: 25,
    }
    assert re.search(r"^\| ours +\| ", printed, re.MULTILINE)
    assert "fsync" in printed


@pytest.mark.skipif(not HAS_PEERS, reason="needs the extra bench")
@pytest.mark.parametrize("peer", PEERS)
def test_ingest_counts_what_a_peer_stored(measured, peer):
    tables, _ = measured(ingest, *SMALL, "0", "--only", peer)

    assert tables["Closed loop, 4 connections, 1 KB"][peer]["req/s"] > 0


def test_ingest_takes_pgbenchs_rows_for_the_limit(measured):
    tables, printed = measured(ingest, *SMALL, "0", "--only", ingest.PGBENCH)

    rows = tables["Closed loop, 4 connections, 1 KB"]
    assert not rows or rows[ingest.PGBENCH]["req/s"] > 0  # left out where there is no pgbench
    assert "date: " in printed


def test_a_peer_that_is_not_installed_is_left_out_with_a_line_that_says_so(measured, monkeypatch):
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *rest: None if name == "fastapi" else find_spec(name, *rest)
    )

    tables, printed = measured(ingest, *SMALL, "0", "--only", "FastAPI + INSERT")

    assert re.search(r"FastAPI \+ INSERT: left out: no (\w+, )*fastapi; pip install -e '.\[bench\]'", printed)
    assert tables == {"Closed loop, 4 connections, 1 KB": {}}


@pytest.mark.parametrize("stored", [9, 15])
def test_a_server_that_stored_other_than_it_answered_ends_the_benchmark(stored):
    with pytest.raises(SystemExit, match="ours: events: expected 10, or up to 4 more, got"):
        ingest.check("ours: events", 10, stored, cut_off=4)


def test_what_a_spool_still_holds_is_waited_for_and_told():
    stored = iter([7, 7, 10, 10])

    assert ingest.settled("ours: events", 10, lambda: next(stored), before=0, cut_off=0) == 3


def test_memory_tells_the_receivers_and_the_processors(measured):
    tables, _ = measured(memory, "--deliveries", "40", "--events", "60", "--seconds", "0.2", "--connections", "4")

    summary, points = tables.values()
    assert summary.keys() == {"receiver", "processor", "processor's worker"}
    assert all(row["most"] >= row["first"] > 0 for row in summary.values())
    assert 1 <= len(points) <= memory.POINTS


def test_cost_tells_wal_disk_idling_and_starting(measured):
    tables, _ = measured(cost, "--events", "60", "--idle", "0.2", "--starts", "1")

    wal, disk, idle, starts = tables.values()
    assert wal["all"]["WAL"] == pytest.approx(sum(row["WAL"] for name, row in wal.items() if name != "all"), rel=1e-3)
    assert disk["all"]["disk"] > cost.BODY
    assert idle.keys() == {"receiver run", "processor run --interval 5"}
    assert starts.keys() == cost.COMMANDS.keys()


def test_rounds_are_in_turns_and_go_on_without_who_is_missing():
    order = []

    def case(name):
        order.append(name)
        if name == "b":
            raise Missing("no b")
        return {"nth": len(order)}

    found = interleaved({name: partial(case, name) for name in "abc"}, 2)

    assert order == ["a", "b", "c", "a", "c"]
    assert found == {"a": [{"nth": 1}, {"nth": 4}], "c": [{"nth": 3}, {"nth": 5}]}


def test_a_ratio_is_of_the_same_round_and_a_figure_that_a_row_lacks_is_blank():
    slow = [{"rate": 1.0}, {"rate": 3.0}, {"rate": 9.0}]
    ours = [{"rate": 2.0, "more": 1.0}, {"rate": 9.0, "more": 2.0}, {"rate": 18.0, "more": 3.0}]
    table = Table("t", {"rate": "a second", "more": ""}, {"slow": slow, "ours": ours}, over=("rate", "slow"))

    assert table.medians() == {"slow": {"rate": 3, "÷ slow": 1}, "ours": {"rate": 9, "÷ slow": 2, "more": 2}}
    _, _, first, second = report.text(table.as_json()).replace(" ", "").splitlines()
    assert (first, second) == ("|slow|3|1||", "|ours|9|2|2|")


def test_a_chart_has_a_bar_a_row_in_proportion_and_escapes_names():
    root = ET.fromstring(draw([Panel("a & b", {"<peer>": 2.0, "ours, new": 1.0})]))

    bars = [one.attrib for one in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert [bar["class"] for bar in bars] == ["bar", "bar ours"]
    assert float(bars[0]["width"]) == pytest.approx(2 * float(bars[1]["width"]), rel=0.01)


def test_the_page_shows_what_the_json_holds():
    text = page.PAGE.read_text(encoding="utf-8")

    assert page.filled(text) == text, "docs/performance.md: run `python -m benchmarks.page`"


def test_the_page_has_a_place_for_every_benchmark_that_writes_json():
    named = {match[2] for match in page.PLACE.finditer(page.PAGE.read_text(encoding="utf-8"))}

    assert {path.stem for path in report.DIRECTORY.glob("*.json")} <= named
    assert {"ingest", "drain", "latency", "claim_cost", "memory", "cost"} <= named
