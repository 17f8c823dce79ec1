"""Payload → model, one module a provider: what a payload means, read anew at each attempt and each replay.

A module has ``call_event(event)`` and, where its provider sends messages, ``message_event(event)``.
"""

from collections.abc import Callable

from pydantic import ValidationError

from handlers.models import CallEvent, Invalid, M, MessageEvent, invalid
from handlers.providers import agent, dialpad, inbox, twilio, vapi
from processor import Event

CALLS: dict[str, Callable[[Event], CallEvent]] = {
    "agent": agent.call_event,
    "dialpad": dialpad.call_event,
    "inbox": inbox.call_event,
    "twilio": twilio.call_event,
    "vapi": vapi.call_event,
}
MESSAGES: dict[str, Callable[[Event], MessageEvent]] = {
    "dialpad": dialpad.message_event,
    "twilio": twilio.message_event,
}


def call_event(event: Event) -> CallEvent:
    """Return what *event* says of its call. Raises Invalid, a ValueError, for what isn't as documented."""
    if event.provider not in CALLS:
        raise Invalid(f"expected a provider of calls, one of {', '.join(CALLS)}; got {event.provider!r}")
    return _model(CALLS[event.provider], event)


def message_event(event: Event) -> MessageEvent:
    """Return what *event* says of its message. Raises Invalid, a ValueError, for what isn't as documented."""
    if event.provider not in MESSAGES:
        raise Invalid(f"expected a provider of messages, one of {', '.join(MESSAGES)}; got {event.provider!r}")
    return _model(MESSAGES[event.provider], event)


def _model(normalise: Callable[[Event], M], event: Event) -> M:
    try:
        return normalise(event)
    except ValidationError as error:  # fields that are there, and make no sense: a negative duration
        raise invalid(f"{event.provider} {event.provider_type or event.event_type}", error) from None
