"""In which order a batch's events are attempted, and which of them together."""

from collections.abc import Callable

from processor.event import Event
from processor.outcome import Outcome
from processor.registry import Handler


class Turns:
    """The turns of a batch's events, in the order of their ids.

    done: those that have had theirs. waiting: by subject, the first of its events that has to be tried again: those
    behind it wait. alone: events that a batch handler could not handle with others.
    """

    def __init__(self, events: list[Event], handlers_of: Callable[[Event], list[Handler]]) -> None:
        self.events = events
        self.handlers_of = handlers_of
        self.place = 0
        self.done: set[int] = set()
        self.waiting: dict[str | None, int] = {}
        self.alone: set[int] = set()

    def next(self) -> list[Event]:
        """Return whose turn it is: one event, or several for one batch handler; none when all have had theirs."""
        while self.place < len(self.events):
            event = self.events[self.place]
            if event.id not in self.done and not self._waits(event):
                handlers = self.handlers_of(event)
                together = len(handlers) == 1 and handlers[0].batch and event.id not in self.alone
                return self._together(handlers[0]) if together else [event]
            self.place += 1
        return []

    def end(self, events: list[Event], outcomes: list[Outcome]) -> None:
        """Note what became of a turn: an outcome an event, or none where each is to have a turn of its own instead."""
        (self.done if outcomes else self.alone).update(event.id for event in events)
        for outcome in outcomes:
            if outcome.result == "retry" and outcome.event.subject is not None:
                first = self.waiting.get(outcome.event.subject, outcome.event.id)
                self.waiting[outcome.event.subject] = min(first, outcome.event.id)

    def again(self, events: list[Event], outcomes: list[Outcome]) -> list[Outcome]:
        """Have these events run again, before any other; return the outcomes without theirs.

        So have those that are done behind one of them in its subject, which had nothing to undo: it may fail this time.
        """
        ids = {event.id for event in events}
        heads: dict[str | None, int] = {
            event.subject: event.id for event in reversed(events) if event.subject is not None
        }
        kept = []
        for outcome in outcomes:
            event = outcome.event
            behind = outcome.result != "retry" and event.id > heads.get(event.subject, event.id)
            if event.id in ids or behind:
                self.done.discard(event.id)
                event.restore()
            else:
                kept.append(outcome)
        self.place = 0
        return kept

    def _waits(self, event: Event) -> bool:
        return event.id > self.waiting.get(event.subject, event.id)

    def _together(self, handler: Handler) -> list[Event]:
        """Return the events that are for this handler and no other, and behind no earlier one of their subject."""
        chosen, held = [], set[str]()
        for event in self.events[self.place :]:
            if event.id in self.done or event.subject in held or self._waits(event):
                continue
            if event.id not in self.alone and self.handlers_of(event) == [handler]:
                chosen.append(event)
            elif event.subject is not None:
                held.add(event.subject)
        return chosen
