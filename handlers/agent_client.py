"""What our voice agent imports to tell the inbox of its calls: answered, completed, failed.

Made for the agent's process: nothing but the standard library, no database. AsyncAgentClient is for one that runs
asyncio, such as a LiveKit worker. Each method makes one event, and up to three attempts to have it stored: at once,
2 s after the first failed, 4 s after the second. All attempts are the same bytes with the same ``event_id``, so an
event whose answer was lost is stored once; a second call for the same reminder is another event.

Source: the agent's "Webhook Configuration Guide"; receiver/providers/agent.py reads what is sent here.
"""

import asyncio
import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import UTC, datetime
from typing import Any, Generic, Self, TypedDict, TypeVar, Unpack
from uuid import uuid4

from handlers.post import check_url, post
from handlers.sending import Sending, Undelivered
from handlers.signing import agent_signature

__all__ = ["AgentClient", "AsyncAgentClient", "Undelivered"]

TIMEOUT = 5.0  # seconds an attempt; our receiver answers within 2.5 s

Sent = TypeVar("Sent")


class Event(TypedDict, total=False):
    """What any method takes besides its own: event_id, a new uuid unless given; occurred_at, now unless given."""

    event_id: str
    occurred_at: datetime


class Client(ABC, Generic[Sent]):
    """What both clients offer; Sent is what a method returns, nothing or an awaitable of it."""

    def __init__(self, url: str, secret: str, *, timeout: float = TIMEOUT) -> None:
        if not secret or secret != secret.strip():
            raise ValueError("agent client: expected a secret without white space around it; set WEBHOOK_SECRET")
        try:
            check_url(url)
        except ValueError as error:
            raise ValueError(f"agent client: {error}; set WEBHOOK_URL") from error
        if not timeout > 0:
            raise ValueError(f"agent client: expected timeout > 0 seconds, got {timeout!r}")
        self._url, self._secret, self._timeout = url, secret, timeout

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ, *, timeout: float = TIMEOUT) -> Self:
        """Return a client for WEBHOOK_URL and WEBHOOK_SECRET. Raises ValueError, as the constructor does."""
        if missing := [name for name in ("WEBHOOK_URL", "WEBHOOK_SECRET") if not environ.get(name)]:
            raise ValueError(f"agent client: no {' and no '.join(missing)}; set in the agent's environment")
        return cls(environ["WEBHOOK_URL"], environ["WEBHOOK_SECRET"], timeout=timeout)

    def call_answered(self, reminder_id: str, **event: Unpack[Event]) -> Sent:
        """Tell that the customer has picked up; as ``send``."""
        return self.send("call_answered", reminder_id, **event)

    def call_completed(
        self,
        reminder_id: str,
        *,
        connected: bool,
        duration: float,
        customer_response: str | None = None,
        notes: str | None = None,
        **event: Unpack[Event],
    ) -> Sent:
        """Tell how the call ended, after how many seconds; as ``send``."""
        outcome = _outcome(connected, duration, customer_response, notes)
        return self.send("call_completed", reminder_id, outcome, **event)

    def call_failed(
        self,
        reminder_id: str,
        *,
        customer_response: str | None = None,
        notes: str | None = None,
        **event: Unpack[Event],
    ) -> Sent:
        """Tell that nobody was reached, and how: ``no_answer``; as ``send``."""
        return self.send("call_failed", reminder_id, _outcome(False, 0, customer_response, notes), **event)

    def send(
        self,
        event_type: str,
        reminder_id: str,
        outcome: Mapping[str, Any] | None = None,
        *,
        event_id: str | None = None,
        occurred_at: datetime | None = None,
    ) -> Sent:
        """Have one event stored. Raises Undelivered, and logs a line, after its last attempt.

        outcome: as JSON. occurred_at: with a time zone. Raises ValueError or TypeError for what can't be sent.
        """
        event_id = str(uuid4()) if event_id is None else event_id
        occurred_at = occurred_at or datetime.now(UTC)
        if not all(isinstance(text, str) and text for text in (event_type, reminder_id, event_id)):
            raise ValueError("agent client: expected event_type, reminder_id and event_id as text that isn't empty")
        if occurred_at.utcoffset() is None:
            raise ValueError("agent client: expected occurred_at with a time zone, as datetime.now(UTC) has")
        fields = {
            "reminder_id": reminder_id,
            "event_type": event_type,
            **({} if outcome is None else {"outcome": dict(outcome)}),
            "event_id": event_id,
            "occurred_at": occurred_at.astimezone(UTC).isoformat(timespec="milliseconds"),
        }
        # Once: what is signed are the bytes that are sent, at every attempt.
        body = json.dumps(fields, allow_nan=False, separators=(",", ":")).encode()
        headers = {"content-type": "application/json", "x-webhook-signature": agent_signature(self._secret, body)}
        return self._deliver(Sending(event_id, event_type, lambda: post(self._url, body, headers, self._timeout)))

    @abstractmethod
    def _deliver(self, sending: Sending) -> Sent:
        """Attempt it until it is taken, waiting in between."""


class AgentClient(Client[None]):
    """Tells the inbox of calls; a method returns once it is told. It may be shared by threads.

    timeout: seconds, for connecting and for the answer, of each attempt. Raises ValueError for an empty secret or a
    bad URL.
    """

    def __init__(
        self, url: str, secret: str, *, timeout: float = TIMEOUT, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        super().__init__(url, secret, timeout=timeout)
        self._sleep = sleep

    def _deliver(self, sending: Sending) -> None:
        while (wait := sending.attempt()) is not None:
            self._sleep(wait)


class AsyncAgentClient(Client[Coroutine[Any, Any, None]]):
    """The same, to be awaited. An attempt runs in a thread of asyncio's default executor; a wait holds none.

    A task that is cancelled makes no further attempt; the one in hand goes on, and may arrive.
    """

    def __init__(
        self,
        url: str,
        secret: str,
        *,
        timeout: float = TIMEOUT,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        super().__init__(url, secret, timeout=timeout)
        self._sleep = sleep

    async def _deliver(self, sending: Sending) -> None:
        while (wait := await asyncio.to_thread(sending.attempt)) is not None:
            await self._sleep(wait)


def _outcome(connected: bool, duration: float, customer_response: str | None, notes: str | None) -> dict[str, Any]:
    fields = {"connected": connected, "duration": duration, "customer_response": customer_response, "notes": notes}
    return {name: value for name, value in fields.items() if value is not None}
