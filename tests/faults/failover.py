"""A run of real traffic in which the primary's machine is lost and its synchronous standby takes over.

    python -m tests.faults.failover --seconds 60 --rate 120 --stall 3 --away 20 --seed 1

The standby stalls for some seconds, so that commits wait for it, deliveries are late and others are repeated; then
every process of the primary is killed by -9, and after --away seconds the standby is promoted, as by Patroni after its
ttl. Receiver and processor have one DATABASE_URL with both hosts. Exit 1 unless nothing that was answered 2xx was lost,
nothing was doubled, and every answer was 2xx.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from tests.faults.flushes import flushing
from tests.faults.outage import SETTLE, Report, account, reach
from tests.faults.rig import Late, rig, wait_until
from tests.faults.servers import pair
from tests.faults.traffic import Load


@dataclass(frozen=True)
class Failover:
    """What is done. Seconds of load; of the standby's stall before the primary's loss; from then to the promotion."""

    seconds: float = 60.0
    rate: float = 120.0
    stall: float = 3.0
    away: float = 20.0
    seed: int = 1
    drain: float = 30.0
    spool: bool = True


def run(failover: Failover, directory: Path) -> Report:
    """Run it; logs, history and spool stay in *directory*. Call it from the main thread. Skips as pair() does."""
    with (
        pair() as servers,
        rig(directory, servers.dsn, spool=failover.spool) as it,
        flushing(directory) as flushes,
    ):
        with it.load(Load(failover.rate, failover.seconds, failover.seed)) as sender:
            reach(sender, (failover.seconds - failover.stall - failover.away) / 2)
            gone = sender.now
            servers.stall()
            reach(sender, gone + failover.stall)
            servers.primary.kill()
            servers.unstall()
            reach(sender, gone + failover.stall + failover.away)
            storing = str(it.ready().get("storing", "database"))
            servers.promote()
            back, kept = sender.now, set(sender.acked)
            try:
                drained = wait_until(lambda: it.stored(kept), SETTLE, "all that was acknowledged stored")
            except Late:
                drained = float("inf")
        verdict = it.settle(sender, SETTLE)
    return Report(verdict, sender, (gone, back), drained, failover.drain, storing, flushes.slowest)


@click.command()
@click.option("--seconds", type=click.FloatRange(min=1), default=60.0, show_default=True, help="Of load.")
@click.option("--rate", type=click.FloatRange(min=1), default=120.0, show_default=True, help="Deliveries a second.")
@click.option("--stall", type=click.FloatRange(min=0), default=3.0, show_default=True, help="Seconds before the kill.")
@click.option("--away", type=click.FloatRange(min=0), default=20.0, show_default=True, help="Seconds to the promotion.")
@click.option("--drain", type=click.FloatRange(min=0), default=30.0, show_default=True, help="Seconds, at most.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--spool/--no-spool", default=True, show_default=True, help="Without: what providers lose.")
def main(**options: Any) -> None:
    """Lose the primary under load, promote its standby, and account for every delivery."""
    account(Failover(**options), run)


if __name__ == "__main__":
    main()
