"""An event as a handler sees it, and the two answers a handler has besides returning and raising."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl

RETRY_LATER_MAX = 366 * 24 * 3600
# What of a provider's type is logged. It is the payload's own text, and may be a phone number.
WORD = re.compile(r"(?!.*\d{5})[A-Za-z0-9._:/-]{0,80}")


def _integer(digits: str) -> int | Decimal:
    return int(digits) if len(digits) <= 4000 else Decimal(digits)


DECODER = json.JSONDecoder(parse_int=_integer)


@dataclass(frozen=True)
class Event:
    """One claimed row of webhook_events.

    headers and payload are read from their JSON when a handler first looks at them, and kept.

    payload is what the body's JSON or form holds: for a form a dict of names to text, or to a list where
    a name repeats; None where the body does not parse (parse_error says why; body has the bytes).
    attempt counts this run: 1, 2, ...; replays counts how often it was made due again by hand.
    occurred_at is by the provider's clock, None where it sends no time; received_at by the database's.
    suspect: it may have ended a worker, and runs alone. lease: set where an earlier worker's has lapsed.
    """

    id: int
    app_id: str
    source: str
    provider: str
    event_id: str
    event_type: str
    provider_type: str
    subject: str | None
    method: str
    url: str
    headers: dict[str, str]
    body: bytes
    payload: Any
    parse_error: str | None
    occurred_at: datetime | None
    received_at: datetime
    attempt: int
    replays: int
    suspect: bool = False
    lease: int | None = None

    @classmethod
    def of(cls, columns: Iterable[tuple[str, Any]]) -> Self:
        """Make one of its fields; instead of headers and payload: headers_json and payload_json, as text."""
        event = object.__new__(cls)
        # Past __init__, which sets twenty fields of a frozen class one by one.
        event.__dict__.update(columns)
        return event

    if not TYPE_CHECKING:  # it would answer for misspelt fields, too

        def __getattr__(self, name: str) -> Any:
            if name not in ("headers", "payload") or f"{name}_json" not in self.__dict__:
                raise AttributeError(f"event: no field {name!r}")
            return self.__dict__.setdefault(name, read_payload(self.__dict__[f"{name}_json"]))

    def restore(self) -> None:
        """Forget what a handler may have changed in headers and payload: they are read anew."""
        for name in ("headers", "payload"):
            if f"{name}_json" in self.__dict__:
                self.__dict__.pop(name, None)

    @property
    def subject_id(self) -> str:
        """The subject without its kind: ``CA...`` of ``call/CA...``; "" where there is no subject."""
        return (self.subject or "").partition("/")[2]

    @property
    def provider_word(self) -> str:
        """provider_type where it is a word that can be logged, else "?"."""
        return self.provider_type if WORD.fullmatch(self.provider_type) else "?"

    @property
    def query(self) -> dict[str, str]:
        """The parameters of the URL that the provider called, decoded; the last of a repeated one.

        NUL, which PostgreSQL can't hold, is U+FFFD, as in payload.
        """
        pairs = parse_qsl(self.url.partition("?")[2], keep_blank_values=True)
        return {name: value.replace("\0", "\ufffd") for name, value in pairs}

    @property
    def key(self) -> str:
        """An idempotency key for calls to other services: the same at every attempt, new at a replay."""
        return f"{self.source}:{self.event_id}:{self.replays}"


def read_payload(text: str | None) -> Any:
    """Return the value of a jsonb column's text; never raises, since one row must not fail the batch it is in.

    An integer of more digits than Python takes is a Decimal; JSON nested beyond Python's depth is None.
    """
    try:
        return None if text is None else DECODER.decode(text)
    except RecursionError:
        return None


class RetryLater(Exception):
    """Answer of a handler: not now. The event is due again after so many seconds, and no attempt is spent.

    What the handlers of this event wrote is rolled back.
    """

    def __init__(self, seconds: float, reason: str = "") -> None:
        if not 0 < seconds <= RETRY_LATER_MAX:
            raise ValueError(f"RetryLater: expected seconds > 0 and at most {RETRY_LATER_MAX}, got {seconds!r}")
        super().__init__(reason or f"to be tried again in {seconds:g} s")
        self.seconds = seconds


class Discard(Exception):
    """Answer of a handler: never. The event becomes a dead letter with this reason; a replay revives it.

    What the handlers of this event wrote is rolled back.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
