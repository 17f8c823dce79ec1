"""Torture: the processor under kills, poison, failing handlers, replays and restarts of its database.

    python -m benchmarks.torture --seed 7

Two processors of two workers each handle events while these are being stored, a subject's always by the same
feeder. At moments told by the seed workers and processors are killed, PostgreSQL is restarted and ids are replayed.
Then every event is accounted for, and the exit code is 1 unless all came out as it must. The seed fixes what is done
and after how many effects, not how the processes interleave.
"""

import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import click

from benchmarks.torture_plan import POISON, PORTIONS, PROCESSORS, REPLAYED, WORKERS, Plan
from benchmarks.torture_rig import Late, Rig
from benchmarks.torture_verdict import TABLES, account

FEEDERS, CHUNK = 2, 50

STORE = """
    INSERT INTO webhook_events (source, provider, event_id, event_type, subject, payload)
    SELECT 'torture', 'torture', number, event_type, 'torture/' || subject, '{}'
      FROM unnest(%(numbers)s::int[], %(types)s::text[], %(subjects)s::int[]) AS new (number, event_type, subject)
     ORDER BY number
        ON CONFLICT DO NOTHING
"""
# As somebody types it who takes a moment to COMMIT: what was not attempted yet is locked meanwhile, and not changed.
REPLAY = """
    WITH replayed AS (UPDATE webhook_events SET processed_at = NULL WHERE id = ANY (%(ids)s) RETURNING id)
    SELECT pg_sleep(0.3) FROM (SELECT count(*) FROM replayed) AS all_of_them
"""
INNOCENT = "SELECT id FROM webhook_events WHERE event_type <> ALL (%(poison)s) ORDER BY id"
EFFECTS = "SELECT count(*) FROM effects"
WAITING = "SELECT count(*) FROM webhook_events WHERE processed_at IS NULL AND dead_at IS NULL"


DOINGS = {
    "kill_worker": "workers killed",
    "kill_processor": "processors killed",
    "fast": "PostgreSQL restarted, fast",
    "immediate": "PostgreSQL restarted, immediate",
    "replay": f"replays of {REPLAYED / PORTIONS:.0%} of the ids",
}


@dataclass(frozen=True)
class Report:
    """Name, expected and got, a row each; how many attempts began, and how long it took."""

    rows: list[tuple[str, int, int]]
    attempts: int
    seconds: float

    @property
    def passed(self) -> bool:
        """Tell whether everything came as expected."""
        return all(expected == got for _, expected, got in self.rows)

    def __str__(self) -> str:
        lines = [f"{'':40}{'expected':>10}{'got':>10}"]
        for name, expected, got in self.rows:
            lines.append(f"{name:40}{expected:>10,}{got:>10,}{'' if expected == got else '   <- WRONG'}")
        verdict = "passed" if self.passed else "FAILED"
        return "\n".join([*lines, f"{verdict}: {self.attempts:,} attempts in {self.seconds:.0f} s"])


def run(plan: Plan, directory: Path) -> Report:
    """Torture in *directory*, empty and open to PostgreSQL's user; nothing runs at the end, data and logs stay.

    Raises processor.postgres.Unavailable where there is no private PostgreSQL. Call it from the main thread.
    """
    began = time.monotonic()
    done: Counter[str] = Counter()
    with closing(Rig(directory, plan.seconds)) as rig:
        rig.ask(TABLES)
        rig.start(PROCESSORS, WORKERS)
        finished = torture(rig, plan, done)
        codes = rig.stop_processors()
        asked = Counter(doing for _, doing in plan.doings)
        attempts, overlaps = lines(directory / "attempts"), lines(directory / "overlaps")
        rows = [
            *((name, asked[doing], done[doing]) for doing, name in DOINGS.items()),
            *account(rig.number, plan, {int(event): int(began) for event, began, *_ in attempts}),
            ("overlapping while at work", 0, len(overlaps)),
            ("processors that stopped with 0", PROCESSORS, codes.count(0)),
            (f"finished within {plan.seconds:g} s", 1, int(finished)),
        ]
    return Report(rows, len(attempts), time.monotonic() - began)


def torture(rig: Rig, plan: Plan, done: Counter[str]) -> bool:
    """Store the events and do what the plan says, noting it; return whether all was over before the time was up."""
    chance = Random(plan.seed)
    do = {
        "kill_worker": lambda: rig.kill_worker(chance),
        "kill_processor": lambda: rig.kill_processor(chance),
        "fast": lambda: rig.restart_database(signal.SIGINT),
        "immediate": lambda: rig.restart_database(signal.SIGQUIT),
        "replay": lambda: replay(rig, plan, chance),
    }
    with ThreadPoolExecutor(FEEDERS) as feeders:
        fed = [feeders.submit(feed, rig, plan, place) for place in range(FEEDERS)]
        try:
            for mark, doing in plan.doings:
                while rig.number(EFFECTS) < mark:
                    rig.wait()
                do[doing]()
                done[doing] += 1
            for feeder in fed:
                feeder.result()
            while rig.number(WAITING) > 0:
                rig.wait()
        except Late:
            return False
    return True


def feed(rig: Rig, plan: Plan, place: int) -> None:
    """Store the events of every other subject, in their order, some at a time."""
    mine = [number for number in range(plan.events) if number % plan.subjects % FEEDERS == place]
    types = plan.types
    for first in range(0, len(mine), CHUNK):
        numbers = mine[first : first + CHUNK]
        names = {
            "numbers": numbers,
            "types": [types[number] for number in numbers],
            "subjects": [number % plan.subjects for number in numbers],
        }
        rig.ask(STORE, names)
        rig.wait()


def replay(rig: Rig, plan: Plan, chance: Random) -> None:
    """Replay some of the events that are stored by now, whatever has become of them."""
    ids = [identifier for (identifier,) in rig.ask(INNOCENT, {"poison": list(POISON)})]
    portion = round(plan.events * REPLAYED / PORTIONS)
    rig.ask(REPLAY, {"ids": chance.sample(ids, min(portion, len(ids)))})


def lines(path: Path) -> list[list[str]]:
    """Return the words of each line; none where no handler has been loaded."""
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


@click.command()
@click.option("--events", type=click.IntRange(min=500), default=Plan.events, show_default=True)
@click.option("--subjects", type=click.IntRange(min=1), default=Plan.subjects, show_default=True)
@click.option("--seed", type=int, default=Plan.seed, show_default=True)
@click.option(
    "--kills", type=click.IntRange(min=0), default=Plan.kills, show_default=True, help="One in ten a supervisor."
)
@click.option("--restarts", type=click.IntRange(min=0), default=Plan.restarts, show_default=True, help="Of PostgreSQL.")
@click.option("--seconds", type=click.FloatRange(min=1), default=Plan.seconds, show_default=True, help="At most.")
def main(**options: Any) -> None:
    """Torture the processor, and account for every event; exit 1 unless all came out as it must."""
    plan = Plan(**options)
    directory = Path(tempfile.mkdtemp(prefix="webhook-inbox-torture-"))
    directory.chmod(0o711)  # PostgreSQL's user is another when we are root
    report = run(plan, directory)
    click.echo(f"{plan}\n{report}")
    if report.passed:
        shutil.rmtree(directory)
    else:
        click.echo(f"data and logs: {directory}")
    sys.exit(0 if report.passed else 1)


if __name__ == "__main__":
    main()
