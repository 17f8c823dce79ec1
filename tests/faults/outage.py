"""A run of real traffic with the database away in its middle, and the account of every delivery.

    python -m tests.faults.outage --fault stop --seconds 180 --rate 120 --away 60 --seed 1

Faults: stop (immediate shutdown), fast (as an operator restarts it), kill (-9 of all its processes), freeze (SIGSTOP:
connections stay open and nobody answers), disk (its volume is full; needs root). Exit 1 unless nothing was lost or
doubled, every delivery was answered 2xx, and what was kept meanwhile was stored within --drain seconds of its return.
"""

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from receiver.keeper import DISK_SHARE
from receiver.store import DEADLINE
from tests.faults.checker import Verdict
from tests.faults.flushes import flushing
from tests.faults.rig import Late, rig, wait_until
from tests.faults.sender import EXPECTED, Sender
from tests.faults.servers import server
from tests.faults.traffic import Load
from tests.faults.volume import volume

T = TypeVar("T")

FAULTS = ("stop", "fast", "kill", "freeze", "disk")
SETTLE = 120.0  # seconds after the last delivery until all is handled, on a slow machine


@dataclass(frozen=True)
class Outage:
    """What is done. seconds of load, of which the database is away for some in the middle; drain: seconds allowed."""

    fault: str = "stop"
    seconds: float = 180.0
    rate: float = 120.0
    away: float = 60.0
    seed: int = 1
    drain: float = 30.0
    spool: bool = True


@dataclass(frozen=True)
class Report:
    """What came of it. drained: seconds from the database's return until all acknowledged by then was stored.

    flush: seconds that the disk by itself took at most to have a page for good.
    """

    verdict: Verdict
    sender: Sender
    away: tuple[float, float]
    drained: float
    allowed: float
    storing: str
    flush: float

    @property
    def passed(self) -> bool:
        return self.verdict.passed and not self.faults

    @property
    def faults(self) -> list[str]:
        """What is not as it must be, besides the verdict."""
        failed, wrong = self.sender.failed, self.sender.wrong
        dead = set(self.verdict.dead) - self.sender.unsound
        return [
            *([f"answers other than 2xx: {len(failed)}, the first {failed[0]}"] if failed else []),
            *([f"noise answered otherwise than expected: {len(wrong)}, the first {wrong[0]}"] if wrong else []),
            *([f"dead letters of sound deliveries: {len(dead)}"] if dead else []),
            *(
                [f"drained after {self.drained:.1f} s, expected {self.allowed:g}"]
                if self.drained > self.allowed
                else []
            ),
        ]

    def __str__(self) -> str:
        verdict, answers = self.verdict, [one for one in self.sender.answers if one.noise not in EXPECTED]
        begin, end = self.away
        phases = {
            "before": [one.took for one in answers if one.at < begin],
            "away": [one.took for one in answers if begin <= one.at < end],
            "after": [one.took for one in answers if one.at >= end],
        }
        counts = {
            "lost": len(verdict.lost), "doubled": len(verdict.doubled), "failed answers": len(self.sender.failed),
            "recovered": len(verdict.recovered), "given up by providers": len(verdict.given_up),
        }  # fmt: skip
        lines = [
            ", ".join(f"{name} {number:,}" for name, number in counts.items()),
            f"away from {begin:.1f} to {end:.1f} s, storing in {self.storing}; drained in {self.drained:.1f} s",
            *(f"{name:7} {_latencies(took)}" for name, took in phases.items()),
            f"the disk by itself: a page and an fsync within {1000 * self.flush:.1f} ms",
            str(verdict),
            *self.faults,
        ]
        return "\n".join([*lines, "passed" if self.passed else "FAILED"])


def _latencies(took: list[float]) -> str:
    if not took:
        return "no answers"
    ms = [1000 * one for one in sorted(took)]
    p50, p99 = ms[len(ms) // 2], ms[min(len(ms) - 1, len(ms) * 99 // 100)]
    return f"{len(ms):6,} answers, p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {ms[-1]:.1f} ms"


def run(outage: Outage, directory: Path) -> Report:
    """Run it in *directory*, empty and open to PostgreSQL's user; nothing runs at the end, logs and history stay.

    Raises volume.NoVolume; skips the test where there is no PostgreSQL of our own. Call it from the main thread.
    """
    with (
        database_losing(outage.fault, directory) as (dsn, lose, get_back),
        rig(directory, dsn, spool=outage.spool) as it,
        flushing(directory) as flushes,
    ):
        with it.load(Load(outage.rate, outage.seconds, outage.seed)) as sender:
            reach(sender, (outage.seconds - outage.away) / 2)
            gone = sender.now
            lose()
            reach(sender, gone + outage.away)
            storing = str(it.ready().get("storing", "database"))
            get_back()
            back, kept = sender.now, set(sender.acked)
            try:
                drained = wait_until(lambda: it.stored(kept), SETTLE, "all that was acknowledged stored")
            except Late:
                drained = float("inf")
        verdict = it.settle(sender, SETTLE)
    return Report(verdict, sender, (gone, back), drained, outage.drain, storing, flushes.slowest)


def on_a_sound_disk(run: Callable[[], Report]) -> Report:
    """Return what came of the first of three runs that passed, or whose disk was always as quick as a spool needs it.

    Where it was not, a 503 is the only true answer, and nobody's fault. An append may wait for the one before it.
    """
    for _ in range(2):
        found = run()
        if found.passed or found.flush < DISK_SHARE * DEADLINE / 2:
            return found
        click.echo(found)
    return run()


def reach(sender: Sender, moment: float) -> None:
    """Return when the load has run for so many seconds."""
    until = time.monotonic() + moment + 60
    while sender.now < moment:
        if time.monotonic() > until:
            raise TimeoutError("the load has not begun")
        time.sleep(0.02)


@contextmanager
def database_losing(fault: str, directory: Path) -> Iterator[tuple[str, Callable[[], None], Callable[[], None]]]:
    """Run a server with our schema; yield its DSN, what takes it away, and what brings it back."""
    with ExitStack() as stack:
        if fault == "disk":
            disk = stack.enter_context(volume())
            database = stack.enter_context(server(disk.path / "data"))
            database.configure(max_wal_size="64MB", min_wal_size="32MB")  # else the WAL alone would fill it

            def free_and_start() -> None:
                disk.free()
                database.restart(signal.SIGQUIT)

            yield database.dsn, disk.fill, free_and_start
            return
        database = stack.enter_context(server(directory / "data"))
        ways: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
            "stop": (database.stop, database.start),
            "fast": (partial(database.stop, signal.SIGINT), database.start),
            "kill": (database.kill, database.start),
            "freeze": (database.freeze, database.thaw),
        }
        yield database.dsn, *ways[fault]


@click.command()
@click.option("--fault", type=click.Choice(FAULTS), default="stop", show_default=True)
@click.option("--seconds", type=click.FloatRange(min=1), default=180.0, show_default=True, help="Of load.")
@click.option("--rate", type=click.FloatRange(min=1), default=120.0, show_default=True, help="Deliveries a second.")
@click.option("--away", type=click.FloatRange(min=0), default=60.0, show_default=True, help="Seconds, in the middle.")
@click.option("--drain", type=click.FloatRange(min=0), default=30.0, show_default=True, help="Seconds, at most.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--spool/--no-spool", default=True, show_default=True, help="Without: what providers lose.")
def main(**options: Any) -> None:
    """Take the database away under load, and account for every delivery."""
    account(Outage(**options), run)


def account(what: T, run: Callable[[T, Path], Report]) -> NoReturn:
    """Run it, print the report, and exit: 0 where it passed; else 1, and history and logs are kept."""
    directory = Path(tempfile.mkdtemp(prefix="webhook-inbox-"))
    directory.chmod(0o711)  # PostgreSQL's user is another when we are root
    report = run(what, directory)
    click.echo(f"{what}\n{report}")
    if report.passed:
        shutil.rmtree(directory)
    else:
        click.echo(f"history and logs: {directory}")
    sys.exit(0 if report.passed else 1)


if __name__ == "__main__":
    main()
