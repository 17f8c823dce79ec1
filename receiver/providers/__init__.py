"""One module a provider: what is true of its HTTP. Pure functions of bytes, secret, options and now.

To add one: write ``receiver/providers/<name>.py`` with the names of Provider, and list it here.
"""

from typing import Any, Protocol

from pydantic import BaseModel

from receiver.delivery import Answer, Delivery, Identity
from receiver.providers import agent, dialpad, twilio, vapi


class Provider(Protocol):
    """What each module offers.

    METHODS it sends; NEEDS_BASE_URL: whether its signature covers the public URL; SECRET_BYTES: a shorter
    secret is warned of at start; Options: what a source may set besides what all sources have.
    """

    @property
    def METHODS(self) -> tuple[str, ...]: ...  # noqa: D102, N802
    @property
    def NEEDS_BASE_URL(self) -> bool: ...  # noqa: D102, N802
    @property
    def SECRET_BYTES(self) -> int: ...  # noqa: D102, N802
    @property
    def Options(self) -> type[BaseModel]: ...  # noqa: D102, N802

    def check_secret(self, secret: bytes, options: Any, /) -> None:
        """Raise ValueError, which must not quote it, for a secret that can't be one; called once, at start."""

    def verify(self, delivery: Delivery, secret: bytes, options: Any, now: float, /) -> None:
        """Raise BadSignature unless *delivery* was made with *secret*; *now* in unix seconds."""

    def identify(self, delivery: Delivery, options: Any, /) -> list[Identity]:
        """Name every event of an authentic delivery. Never raises: what can't be read is named unparseable."""

    def answer(self, delivery: Delivery, options: Any, /) -> Answer:
        """Return the body of a 2xx; the same for the same delivery."""


PROVIDERS: dict[str, Provider] = {
    "agent": agent,
    "dialpad": dialpad,
    "twilio": twilio,
    "vapi": vapi,
}
