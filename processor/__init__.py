"""The processor: decides when an event is attempted, and what became of it. It knows no provider and no HTTP.

``from processor import on, Event, RetryLater, Discard`` is all that a handler needs.
"""

from processor.event import Discard, Event, RetryLater
from processor.registry import on

__all__ = ["Discard", "Event", "RetryLater", "on"]
