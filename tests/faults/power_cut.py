"""Power cuts under load: what was acknowledged before one is there after it.

The database and the receiver's spool lie on a disk each, which lose their power at the same random moment:
while deliveries are stored, while the database is away and they are spooled, or while the spool drains. After
each cut all that was acknowledged in the whole run is looked for. Exits 1 on a loss.

--without leaves out the database's fsync or the spool's: then a loss must be seen, or these cuts prove nothing.

    python -m tests.faults.power_cut --times 5 --seconds 20 --seed 1
"""

import random
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass

import click

from benchmarks.server import answers
from tests.faults.load import Load, lost
from tests.faults.machine import Database, freeze
from tests.faults.spooled import on_disk, waiting
from tests.faults.volume import NoVolume, Volume, volume
from tests.processes import Command, free_port, wait_for

MOMENTS = ("storing", "spooling", "draining")
SPOOLED = 20  # deliveries that the spool is given at least before a cut
RECEIVER = ("receiver", "run")
UNSAFE_RECEIVER = ("tests.faults.unsafe_receiver", "run")


@dataclass(frozen=True)
class Cut:
    """One cut: what was sent before it and what was found after it."""

    moment: str
    after_seconds: float
    acknowledged: int
    spooled: int  # events in the spool when its disk was back
    refused: int
    unanswered: int
    slowest_seconds: float
    recovered_seconds: float  # from the return of the power until the spool is empty
    lost: int  # of all that was acknowledged in this run so far


class Machine:
    """A receiver and its database, with a disk each."""

    def __init__(self, database: Database, spool: Volume, command: tuple[str, ...]) -> None:
        self.database = database
        self.spool = spool
        self.spool_dir = spool.path / "spool"
        self.command = command
        self.port = free_port()
        self.receiver: Command | None = None
        self.acknowledged: dict[str, bytes] = {}

    def start(self) -> None:
        """Start the receiver, and return when it takes deliveries."""
        self.receiver = Command(
            self.database.dsn, *self.command, "--port", str(self.port), SPOOL_DIR=str(self.spool_dir)
        )
        wait_for(lambda: answers(self.port))

    def cut(self) -> None:
        """Take the power from both: the receiver first says no more, then the disks stop, then all is gone."""
        if self.receiver:
            freeze(self.receiver.process.pid)
        for disk in (self.database.volume, self.spool):
            disk.cut()
        self.kill()

    def kill(self) -> None:
        self.database.kill()
        if self.receiver:
            self.receiver.process.kill()
            self.receiver.process.wait()
            self.receiver = None

    def lose_power(self, moment: str, seconds: float, chance: random.Random) -> Cut:
        """Send for at most so many seconds, cut at a random moment of that kind, start again, and look."""
        load = Load(self.port, f"{len(self.acknowledged)}")
        began = time.monotonic()
        load.start()
        try:
            if moment != "storing":
                time.sleep(seconds * chance.uniform(0.1, 0.3))
                self.database.stop()
                stored = len(load.acknowledged)
                wait_for(lambda: len(load.acknowledged) >= stored + SPOOLED)
            if moment == "draining":
                time.sleep(seconds * chance.uniform(0.2, 0.4))
                self.database.start()
                wait_for(lambda: answers(self.port))
                time.sleep(chance.uniform(0, 0.5))
            else:
                time.sleep(seconds * chance.uniform(0.2, 0.7))
            self.cut()
        finally:
            load.stop()
        ended = time.monotonic()
        self.acknowledged |= load.acknowledged
        for disk in (self.database.volume, self.spool):
            disk.restore()
        left = on_disk(self.spool_dir)
        self.database.start()
        self.start()
        wait_for(lambda: not waiting(self.port))
        return Cut(
            moment, round(ended - began, 1), len(load.acknowledged), left, load.refused.total(), load.broken,
            round(load.slowest, 2), round(time.monotonic() - ended, 1), len(lost(self.database.dsn, self.acknowledged)),
        )  # fmt: skip


@contextmanager
def machine(without: str | None = None) -> Iterator[Machine]:
    """Make a machine and start it; *without*: whose fsync to leave out, "database" or "spool". Raises NoVolume."""
    with ExitStack() as stack:
        disks = [stack.enter_context(volume()) for _ in range(2)]
        database = Database(disks[0], ["--fsync=off"] if without == "database" else [])
        made = Machine(database, disks[1], UNSAFE_RECEIVER if without == "spool" else RECEIVER)
        stack.callback(made.kill)
        made.start()
        yield made


@click.command(help=(__doc__ or "").partition("\n\n")[0])
@click.option("--times", type=click.IntRange(1), default=5, show_default=True, help="Cuts.")
@click.option("--seconds", type=click.FloatRange(0.5), default=20.0, show_default=True, help="Load a cut, at most.")
@click.option("--seed", type=int, default=lambda: random.randrange(2**31), help="Of the moments.")
@click.option("--without", type=click.Choice(["database", "spool"]), help="Leave out its fsync.")
def main(times: int, seconds: float, seed: int, without: str | None) -> None:
    """Cut, and print a line a cut."""
    chance = random.Random(seed)
    click.echo(f"seed={seed}")
    moments = [MOMENTS[number % len(MOMENTS)] for number in range(times)]
    chance.shuffle(moments)
    cuts = []
    try:
        with machine(without) as made:
            for moment in moments:
                cuts.append(made.lose_power(moment, seconds, chance))
                click.echo(" ".join(f"{name}={value}" for name, value in asdict(cuts[-1]).items()))
    except NoVolume as error:
        sys.exit(f"error: {error}")
    total, gone = sum(cut.acknowledged for cut in cuts), cuts[-1].lost
    click.echo(f"cuts={times} acknowledged={total} lost={gone}")
    sys.exit(1 if gone else 0)


if __name__ == "__main__":
    main()
