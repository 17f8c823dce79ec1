"""One way things could have been: a delivery, and the secret it is held against."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from receiver.delivery import BadSignature, Delivery
from receiver.settings import Source


@dataclass(frozen=True, slots=True)
class Case:
    """*now*: unix seconds, inside the delivery's window where it has one: the clock is a matter of its own."""

    source: Source
    delivery: Delivery
    secret: bytes = field(repr=False)
    now: float

    def proves(self) -> bool:
        """Tell whether the provider's verify() is content."""
        try:
            self.source.adapter.verify(self.delivery, self.secret, self.source.options, self.now)
        except BadSignature:
            return False
        except Exception:  # noqa: BLE001 - as at the door: whatever bytes do, they prove nothing
            return False
        return True

    def with_body(self, body: bytes) -> "Case":
        """Return the same with another body."""
        return replace(self, delivery=replace(self.delivery, body=body))

    def with_headers(self, headers: Mapping[str, str]) -> "Case":
        """Return the same with these headers besides, or in place of its own."""
        return replace(self, delivery=replace(self.delivery, headers={**self.delivery.headers, **headers}))


Guess = tuple[str, Case]  # what would have been otherwise, in words, and the case in which it is
