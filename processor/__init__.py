"""The processor: decides when an event is attempted, and what became of it. It knows no provider and no HTTP.

``from processor import on, Event, RetryLater, Discard, emit, expect, fulfil`` is all that a handler needs.
"""

from processor.emit import emit
from processor.event import Discard, Event, RetryLater
from processor.expect import expect, fulfil
from processor.registry import on

__all__ = ["Discard", "Event", "RetryLater", "emit", "expect", "fulfil", "on"]
