"""What a torture run stores and does, and when: all of it follows from the plan's seed."""

from collections import Counter
from dataclasses import dataclass
from random import Random

# A type of poison: how many crashes alone, or else attempts, it has until it is dead.
CRASHES = {"torture.kill": 3, "torture.segfault": 3}
TRIES = {"torture.loop": 2, "torture.exit": 2}
POISON = (*CRASHES, *TRIES)
PROCESSORS, WORKERS = 2, 2  # workers of each
POISONED = 10  # events
FLAKY_TYPES = ("torture.raise", "torture.hide", "torture.later")
FLAKY = 0.2  # of the events
REPLAYED = 0.1  # of the ids, in so many
PORTIONS = 10


@dataclass(frozen=True)
class Plan:
    """How much of what. seconds: after which the run ends, finished or not."""

    events: int = 20_000
    subjects: int = 200
    seed: int = 1
    kills: int = 30
    restarts: int = 3
    seconds: float = 900.0

    @property
    def deaths(self) -> int:
        """How many workers are killed from outside."""
        kills = Counter(doing for _, doing in self.doings)
        return kills["kill_worker"] + WORKERS * kills["kill_processor"]

    @property
    def types(self) -> list[str]:
        """The event types, in the order in which the events are stored."""
        chance = Random(self.seed)
        types = [chance.choice(FLAKY_TYPES) if chance.random() < FLAKY else "torture.note" for _ in range(self.events)]
        for nth, place in enumerate(chance.sample(range(self.events), POISONED)):
            types[place] = POISON[nth % len(POISON)]
        return types

    @property
    def doings(self) -> list[tuple[int, str]]:
        """What to do, and after how many effects: kill_worker, kill_processor, fast, immediate or replay."""
        chance = Random(self.seed + 1)
        processors = self.kills // 10
        doings = ["kill_worker"] * (self.kills - processors) + ["kill_processor"] * processors
        doings += [("immediate", "fast")[nth % 2] for nth in range(self.restarts)]
        doings += ["replay"] * PORTIONS
        first, last = self.events // 50, self.events * 4 // 5
        return sorted((chance.randrange(first, last), doing) for doing in doings)
