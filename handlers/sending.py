"""One event on its way to a receiver: which attempts it gets, and what its failure is called."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)

WAITS = (2.0, 4.0)  # seconds after the first and the second attempt
TRY_AGAIN = (408, 429)  # and 5xx; any other refusal would be the same the next time


class Undelivered(Exception):
    """No attempt was answered with a 2xx; the event may be stored all the same, if only its answer was lost.

    attempts: how many were made. status: of the last answer, None where none came; then ``__cause__`` is why.
    event_id: given to ``send`` with the same fields, it is the same event.
    """

    def __init__(self, event_id: str, attempts: int, status: int | None, found: str) -> None:
        super().__init__(f"event {event_id}: expected a 2xx, got {found} at attempt {attempts}")
        self.event_id = event_id
        self.attempts = attempts
        self.status = status


@dataclass
class Sending:
    """One event on its way. post: makes one attempt, and returns the answer's status or raises OSError."""

    event_id: str
    event_type: str
    post: Callable[[], int]
    attempts: int = 0

    def attempt(self) -> float | None:
        """Make the next attempt, and return the seconds to wait before another; None: it was taken.

        Raises Undelivered, and logs a line, when no other is worth it.
        """
        self.attempts += 1
        status: int | None = None
        cause: OSError | None = None
        try:
            status = self.post()
        except OSError as error:
            cause = error
        if status is not None and 200 <= status < 300:
            return None
        if self.attempts <= len(WAITS) and (status is None or status >= 500 or status in TRY_AGAIN):
            return WAITS[self.attempts - 1]
        found = f"status {status}" if cause is None else f"{type(cause).__name__}: {cause}"
        log.error(
            "event not delivered id=%s type=%s attempts=%d cause=%s",
            self.event_id, self.event_type, self.attempts, found,
        )  # fmt: skip
        raise Undelivered(self.event_id, self.attempts, status, found) from cause
