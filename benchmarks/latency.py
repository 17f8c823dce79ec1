"""How long it is from a delivery's POST to its handler's committed effect, one at a time, ours and its peers'.

    python -m benchmarks.latency [--rate 20] [--seconds 20] [--rounds 3] [--even] [--only ours] [--write]
                                 [--interval 5] [--workers 1] [--no-listen]

Each door and its worker run on a database of their own in one PostgreSQL, in turns. Deliveries come at random, as from
many callers: --rate is the mean, and half of the gaps are shorter than 0.7 of theirs; with --even all are the same.
Each is timed from before its first byte is sent until this program is told of its handler's write, which PostgreSQL
does once that is committed: so telling it counts too. Ours is `receiver run` and `processor run`; its deliveries are
signed, the peers verify nothing. The last three options are our processor's. DATABASE_URL: a server whose user may
create databases; without it a private PostgreSQL is started.
"""

import http.client
import json
import random
import shlex
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click
import psycopg

from benchmarks.conditions import conditions
from benchmarks.jobs import EFFECTS
from benchmarks.report import Report, Table
from benchmarks.rounds import Measures, interleaved
from benchmarks.routes import PATH, PATHS, PEER_ROUTES, Route, headers, ours
from benchmarks.server import empty_database, server

DEADLINE = 60.0  # seconds, for anything that is waited for
POLL = 0.2  # seconds between two looks whether all is heard; what is told is heard at once
WARM_UP = 20  # deliveries that are not counted
COLUMNS = {"count": "", "median": "ms", "p90": "ms", "p99": "ms", "max": "ms"}
PACKAGES = ("fastapi", "uvicorn", "uvloop", "httptools", "pgqueuer", "asyncpg", "procrastinate")


@click.command(help=(__doc__ or "").partition("\n")[0])
@click.option("--rate", default=20.0, show_default=True, help="Deliveries a second, on average.")
@click.option("--seconds", default=20.0, show_default=True, help="How long they are sent, in each round.")
@click.option("--rounds", default=3, show_default=True, help="Of all in turns.")
@click.option("--even", is_flag=True, help="Send them at even distances, not at random.")
@click.option("--only", multiple=True, type=click.Choice(["ours", *PEER_ROUTES]), help="This one; may be repeated.")
@click.option("--interval", default=5.0, show_default=True, help="Our processor's.")
@click.option("--workers", default=1, show_default=True, help="Our processor's.")
@click.option("--no-listen", is_flag=True, help="Have our processor only poll.")
@click.option("--write", is_flag=True, help="Write docs/benchmarks/latency.json and .svg.")
def main(  # noqa: PLR0913 - one argument an option
    *,
    rate: float,
    seconds: float,
    rounds: int,
    even: bool,
    only: tuple[str, ...],
    interval: float,
    workers: int,
    no_listen: bool,
    write: bool,
) -> None:
    """Measure, and print one table."""
    command = shlex.join(["python", "-m", "benchmarks.latency", *sys.argv[1:]])
    options = ["--interval", f"{interval:g}", "--workers", str(workers), *["--no-listen"] * no_listen]
    routes = {"ours": ours(options), **PEER_ROUTES}
    gaps = [1 / rate if even else random.expovariate(rate) for _ in range(round(rate * seconds))]
    with server() as dsn, tempfile.TemporaryDirectory(prefix="webhook-inbox-") as directory:
        cases = {
            name: partial(measure, dsn, Path(directory) / "log", route, PATHS.get(name, PATH), gaps)
            for name, route in routes.items()
            if not only or name in only
        }
        found = interleaved(cases, rounds)
        title = f"POST to committed effect, {rate:g}/s {'evenly' if even else 'at random'}, {' '.join(options)}"
        Report("latency", command, conditions(dsn, PACKAGES), [table(title, found)]).publish(write=write)


def table(title: str, found: dict[str, list[Measures]]) -> Table:
    """Return what was found beside the peer with the best median."""
    plain = Table(title, COLUMNS, found).medians()
    best = min((name for name in PEER_ROUTES if name in found), key=lambda name: plain[name]["median"], default="ours")
    return Table(title, COLUMNS, found, ("median", best), ("median", "p99"))


def measure(dsn: str, log: Path, route: Route, path: str, gaps: list[float]) -> Measures:
    """Return the times of one round, on an empty database."""
    with empty_database(dsn) as own:
        with psycopg.connect(own, autocommit=True) as conn:
            conn.execute(EFFECTS)
        with route(own, log) as port:
            ms = sorted(1000 * one for one in send(own, port, path, gaps))
        with psycopg.connect(own, autocommit=True) as conn:
            written = conn.execute("SELECT count(*) FROM effects").fetchone()
    if written != (WARM_UP + len(gaps),):
        raise SystemExit(f"error: expected {WARM_UP + len(gaps)} effects, got {written}")
    cuts = statistics.quantiles(ms, n=100, method="inclusive")
    return {"count": float(len(ms)), "median": cuts[49], "p90": cuts[89], "p99": cuts[98], "max": ms[-1]}


def send(dsn: str, port: int, path: str, gaps: list[float]) -> list[float]:
    """Send a delivery after each of *gaps* (seconds), and return the seconds from POST to effect of each."""
    sent_at: dict[str, float] = {}
    with heard(dsn) as done_at:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        due_at = time.monotonic()
        for number, gap in enumerate([0.2] * WARM_UP + gaps):
            due_at += gap
            time.sleep(max(0.0, due_at - time.monotonic()))
            body = json.dumps(
                {"reminder_id": f"rem_{number}", "event_type": "call_answered", "event_id": number}
            ).encode()
            begun_at = time.monotonic()
            connection.request("POST", path, body, headers(body))
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                raise SystemExit(f"error: delivery {number} was answered {response.status}, expected 200")
            sent_at[str(number)] = begun_at
        wait_for(lambda: len(done_at) == len(sent_at))
        connection.close()
    return [done_at[number] - begun_at for number, begun_at in sent_at.items()][WARM_UP:]


@contextmanager
def heard(dsn: str) -> Iterator[dict[str, float]]:
    """Yield what says when each event's effect was told of, in monotonic seconds; a thread fills it."""
    done_at: dict[str, float] = {}
    over = threading.Event()

    def hear() -> None:
        while not over.is_set():
            for notification in listener.notifies(timeout=POLL):
                done_at[notification.payload] = time.monotonic()

    with psycopg.connect(dsn, autocommit=True) as listener:
        listener.execute("LISTEN effects")
        thread = threading.Thread(target=hear)
        thread.start()
        try:
            yield done_at
        finally:
            over.set()
            thread.join()


def wait_for(true: Callable[[], bool]) -> None:
    """Wait until *true()*; end with an error after the deadline."""
    until = time.monotonic() + DEADLINE
    while not true():
        if time.monotonic() > until:
            raise SystemExit(f"error: still not so after {DEADLINE:g} s; see the lines above")
        time.sleep(0.02)


if __name__ == "__main__":
    main()
