"""Where a worker's time goes in a backlog, step by step: worked or waited, without what is within another step.

    python -m benchmarks.where [--events 20000] [--kind upsert]

One worker in this process, as `processor run --once` has it, on 20,000 events of 600 bytes, five of each subject.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from typing import Any

import click
import psycopg

from benchmarks.claim_cost import add
from benchmarks.jobs import DRAINED, KINDS
from benchmarks.server import empty_database, server
from processor import migrations
from processor.loop import Processor
from processor.registry import load
from processor.relay import Relay
from processor.watched import Watched
from processor.workers import Crew
from sql import database
from sql.connection import Connection

STEPS: dict[str, tuple[type, str]] = {
    "claim that is waited for": (Processor, "claim"),
    "said to be about to run, and read": (Processor, "_read"),
    "the handler's call": (Watched, "attempt"),
    "completion sent; the last one's answer, with the next claim": (Relay, "end"),
    "log": (Processor, "tell"),
    "all else": (Processor, "run"),
}


@click.command(help=(__doc__ or "").partition("\n")[0])
@click.option("--events", default=20_000, show_default=True, help="That wait.")
@click.option("--kind", default="upsert", show_default=True, type=click.Choice(KINDS), help="Of handler.")
def main(*, events: int, kind: str) -> None:
    """Measure, and print a line a step."""
    load(["benchmarks.drain_handlers"])
    spent: dict[str, float] = defaultdict(float)
    under_way = [0.0]  # of each step that has not ended: seconds of the steps within it
    for step, (owner, name) in STEPS.items():
        setattr(owner, name, timed(step, getattr(owner, name), spent, under_way))
    with server() as dsn, empty_database(dsn) as own, psycopg.connect(own, autocommit=True) as conn:
        migrations.migrate(conn)
        conn.execute(DRAINED)
        add(conn, "drain", events, event_type=kind)
        conn.execute("VACUUM ANALYZE")
        conn.execute("CHECKPOINT")
        (make,) = Crew(lambda: Connection.connect(own, **database.CONNECT)).makes()
        used = time.process_time()
        totals = make().run(1, once=True)
        used = time.process_time() - used
    if totals.handled != events:
        raise SystemExit(f"error: expected {events} handled, got {totals.handled}")
    for step in STEPS:
        print(f"{1e6 * spent[step] / events:8.1f} µs an event  {step}")
    print(f"{1e6 * sum(spent.values()) / events:8.1f} µs an event in all, {1e6 * used / events:.1f} of it at work")


def timed(step: str, call: Callable[..., Any], spent: dict[str, float], under_way: list[float]) -> Callable[..., Any]:
    """Return the call with a timer around it."""

    @wraps(call)
    def measured(*arguments: Any, **names: Any) -> Any:
        under_way.append(0.0)
        began = time.perf_counter()
        try:
            return call(*arguments, **names)
        finally:
            took = time.perf_counter() - began
            spent[step] += took - under_way.pop()
            under_way[-1] += took

    return measured


if __name__ == "__main__":
    main()
