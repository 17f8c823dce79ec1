"""Which workers a processor has: one for handlers in a transaction, one more where some are outside."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from psycopg import Connection

from processor.claim import Scope
from processor.loop import BATCH_SIZE, LIGHT_SIZE, TIMEOUT, Processor
from processor.outcome import Totals
from processor.outside import CONCURRENCY, Outside
from processor.registry import outside_types


@dataclass(frozen=True)
class Crew:
    """What the workers of a processor have in common; fields as Processor's and Outside's."""

    connect: Callable[[], Connection]
    batch_size: int | None = None  # None: as is best
    scope: Scope = field(default_factory=Scope)
    stopping: threading.Event = field(default_factory=threading.Event)
    timeout: float = TIMEOUT
    concurrency: int = CONCURRENCY
    listen: bool = True

    def makes(self) -> list[Callable[[], Processor]]:
        """Return what makes each worker. Events of a type that has an outside handler go to the second one."""
        types, only = outside_types(), self.scope.types
        elsewhere = tuple((event_type, None, None) for event_type in types)
        inside = partial(Processor, **self._common(replace(self.scope, shut=elsewhere)))
        chosen = [event_type for event_type in types if only is None or event_type in only]
        if not chosen:
            return [inside]
        common = self._common(replace(self.scope, types=chosen))
        outside = partial(Outside, **common, concurrency=self.concurrency)
        return [inside, outside]

    def run_here(self, interval: float, *, max_events: int | None, once: bool) -> Totals:
        """Run the workers in this process, by turns, as Processor.run does; nobody watches over them."""
        workers, totals = [make() for make in self.makes()], Totals()
        if len(workers) == 1:
            return workers[0].run(interval, max_events=max_events, once=once)
        while not self.stopping.is_set() and totals.claimed != max_events:
            before = totals.claimed
            for worker in workers:
                left = None if max_events is None else max_events - totals.claimed
                totals += worker.run(interval, max_events=left, once=True)
            if totals.claimed == before:
                if once:
                    break
                self.stopping.wait(interval)
        return totals

    def _common(self, scope: Scope) -> dict[str, Any]:
        return {
            "connect": self.connect,
            "batch_size": self.batch_size or BATCH_SIZE,
            "light_size": 0 if self.batch_size else LIGHT_SIZE,
            "scope": scope,
            "stopping": self.stopping,
            "timeout": self.timeout,
            "listen": self.listen,
        }
