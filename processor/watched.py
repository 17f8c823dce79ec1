"""Attempts that a supervisor watches: which handler is at work, and until when it may be, is on a worker's page."""

from dataclasses import dataclass, field

from processor.attempt import Call, Tell, attempt_together, call_all, calls_of, unhandled
from processor.event import Event
from processor.handed import Handed
from processor.outcome import Outcome
from processor.page import InHand, Page
from processor.registry import HANDLERS, Handler, handlers_of


@dataclass
class Watched:
    """page: where to say which event is at work; None: nobody looks. timeout: seconds that a handler may take."""

    page: Page | None
    timeout: float
    known: dict[tuple[str, str, str], list[Handler]] = field(default_factory=dict)

    def begin(self, run_id: int) -> None:
        """Say that a batch is in hand, before anything of it is read."""
        self.known.clear()  # a handler may be registered at any time
        if self.page:
            self.page.next(run_id)

    def handlers_of(self, event: Event) -> list[Handler]:
        """As registry's, which is asked once a batch for each kind of event."""
        kind = (event.event_type, event.provider, event.source)
        handlers = self.known.get(kind)
        if handlers is None:
            handlers = self.known[kind] = handlers_of(event)
        return handlers

    def attempt(self, conn: Handed, events: list[Event], in_hand: InHand) -> list[Outcome]:
        """Attempt an event, or several by the batch handler they have in common.

        Return an outcome an event; none where they are to be attempted again: several one by one, one after those that
        were undone with it. Raises Refused when the batch's transaction did not survive it.
        """
        handlers = self.handlers_of(events[0])
        if not handlers:
            return [unhandled(events[0])]
        if len(events) > 1:
            try:
                return attempt_together(conn, events, handlers[0], self._tell(events, in_hand))
            finally:
                self._rest(in_hand)
        outcome = self.call(conn, events[0], calls_of(events[0], handlers), in_hand)
        return [outcome] if outcome else []

    def call(self, conn: Handed, event: Event, calls: list[Call], in_hand: InHand) -> Outcome | None:
        """As call_all."""
        try:
            return call_all(conn, event, calls, self._tell([event], in_hand))
        finally:
            self._rest(in_hand)

    def _tell(self, events: list[Event], in_hand: InHand) -> Tell | None:
        """Return what says on the page which handler is at these events."""
        page = self.page
        if page is None:
            return None
        return lambda handler: page.begin(events, in_hand, HANDLERS.index(handler), handler.timeout or self.timeout)

    def _rest(self, in_hand: InHand) -> None:
        if self.page:
            self.page.run(in_hand[0])
