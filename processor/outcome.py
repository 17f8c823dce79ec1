"""What became of an attempt, how many came to what, and the line that the log gets."""

import logging
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Self

from processor.event import Event
from processor.registry import Handler

log = logging.getLogger("processor")

UNKNOWN_SECONDS = 3600.0  # an unknown type is logged once in so long


@dataclass(frozen=True)
class Outcome:
    """What became of one attempt: handled, no_handler, retry (after wait) or dead.

    error: ``Class: message``. seconds: what the handlers took. handlers: those that ran, the last of which failed.
    yields: seconds from its first failure after which it holds back nobody; None: it does until it succeeds or dies.
    faulty: a handler failed, and did not just answer so. conflict: it lost to another transaction, each time it ran.
    """

    event: Event
    result: str
    error: str | None = None
    wait: timedelta | None = None
    counted: bool = True
    seconds: float | None = None
    handlers: tuple[Handler, ...] = ()
    yields: float | None = None
    faulty: bool = False
    conflict: bool = False

    @property
    def done(self) -> bool:
        """Tell whether the event is processed; else its attempt failed."""
        return self.result in ("handled", "no_handler")


@dataclass
class Totals:
    """Events by what became of them, over some batches."""

    claimed: int = 0
    handled: int = 0
    no_handler: int = 0
    retry: int = 0
    dead: int = 0

    @property
    def processed(self) -> int:
        """Those that are done."""
        return self.handled + self.no_handler

    @property
    def failed(self) -> int:
        """Those whose attempt failed, to be tried again or dead."""
        return self.retry + self.dead

    def add(self, outcomes: list[Outcome]) -> None:
        """Count these attempts."""
        results = Counter(outcome.result for outcome in outcomes)
        self.claimed += len(outcomes)
        self.handled += results["handled"]
        self.no_handler += results["no_handler"]
        self.retry += results["retry"]
        self.dead += results["dead"]

    def __iadd__(self, other: "Totals") -> Self:
        """Add up what two workers did."""
        for name, count in asdict(other).items():
            setattr(self, name, getattr(self, name) + count)
        return self


@dataclass
class Journal:
    """Writes a line an outcome; unknown: when each unknown type had its last."""

    unknown: dict[tuple[str, str], float] = field(default_factory=dict)

    def write(self, outcome: Outcome) -> None:
        """Log what became of an attempt, once that is committed."""
        event = outcome.event
        if outcome.result == "no_handler":
            self._log_unknown(event)
        elif outcome.result == "handled":
            log.info(
                "event handled id=%d type=%s attempt=%d ms=%.0f",
                event.id, event.event_type, event.attempt, (outcome.seconds or 0) * 1000,
            )  # fmt: skip
        elif outcome.wait and not outcome.faulty:  # its handler answered RetryLater
            log.info(
                "event deferred id=%d type=%s due_in=%.0fs", event.id, event.event_type, outcome.wait.total_seconds()
            )
        else:
            due = f" due_in={outcome.wait.total_seconds():.0f}s" if outcome.wait else ""
            log.warning(
                "event %s id=%d type=%s attempt=%d%s cause=%s",
                "failed" if outcome.wait else "dead", event.id, event.event_type, event.attempt, due,
                (outcome.error or "").partition(":")[0],
            )  # fmt: skip

    def _log_unknown(self, event: Event) -> None:
        kind, now = (event.event_type, event.provider_type), time.monotonic()
        if now - self.unknown.get(kind, -UNKNOWN_SECONDS) >= UNKNOWN_SECONDS:
            self.unknown = {known: at for known, at in self.unknown.items() if now - at < UNKNOWN_SECONDS}
            self.unknown[kind] = now
            log.warning(
                "event has no handler id=%d type=%s provider_type=%s; add one with @on and replay",
                event.id, event.event_type, event.provider_word,
            )  # fmt: skip


def log_crashes(settled: Iterable[tuple[int, bool, bool]]) -> None:
    """Log what a worker's death came to for each of its events: id, alone (then it is blamed), dead."""
    for event, alone, dead in settled:
        if alone:
            log.error("event %s id=%d cause=Crash", "dead" if dead else "failed", event)
        else:
            log.warning("event suspect id=%d; its worker died or was silent, so it is run alone", event)
