"""The provider that the items play: what it sends to one deployment, what came back, and how many events that made."""

import math
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import urlsplit

from receiver.conformance import signing, wire
from receiver.conformance.probes import Probe
from receiver.conformance.wire import Reply
from receiver.delivery import Delivery
from receiver.samples import Sample
from receiver.settings import Source

SENDS = 100  # of the items that send many
COUNT_SECONDS = 5.0  # until as many events as expected are to be seen


class OutOfTime(Exception):
    """The run's time is over."""


# Which types an item sends: the plain one, and one that comes after it but may arrive before.
PLAIN = {"twilio": "call.ringing", "vapi": "call.ringing", "dialpad": "call.ringing", "agent": "call.answered"}
LATER = "call.completed"


class Trial:
    """One run. source: as it is configured here, with the base URL and path that are called; to: where to connect.

    others: sources whose secrets must not do here. replies: all that were received. until: when the run ends, by the
    monotonic clock.
    """

    def __init__(  # noqa: PLR0913 - what a command line gives
        self, source: Source, url: str, to: str = "", *, others: Iterable[Source] = (), probe: Probe | None = None,
        sends: int = SENDS,
    ) -> None:  # fmt: skip
        public = urlsplit(url)
        # A proxy takes its prefix away; who connects behind it finds the path without.
        base_url = url if to else f"{public.scheme}://{public.netloc}"
        path = source.paths[0] if to else public.path + source.paths[0]
        self.source = replace(source, base_url=base_url, paths=(path,))
        self.behind = bool(to)
        self.to = to or base_url
        self.host = public.netloc
        self.others = [one for one in others if one.secrets and signing.secret_of(one) != signing.secret_of(source)]
        self.probe = probe
        self.sends = sends
        self.replies: list[Reply] = []
        self.until = math.inf

    @property
    def form(self) -> bool:
        """Tell whether the provider sends forms, and not JSON."""
        return self.source.provider == "twilio"

    def new_subject(self) -> str:
        """Return an id that nothing has, and that tells where it is from."""
        token = secrets.token_hex(14)
        number = f"7357{secrets.randbelow(10**11):011d}"
        uuid = f"7e57{token[:4]}-{token[4:8]}-4{token[8:11]}-8{token[11:14]}-{token[14:26]}"
        return {"twilio": f"CA7e57{token}", "vapi": uuid, "dialpad": number}.get(self.source.provider, f"check-{token}")

    def body(
        self,
        event_type: str = "",
        subject: str = "",
        at: datetime | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> bytes:
        """Return an unsigned body; the same type, subject and time are the same event, whatever other *fields* say."""
        subject, event_type = subject or self.new_subject(), event_type or PLAIN[self.source.provider]
        own = {"event_id": f"{subject}-{event_type}"} if self.source.provider == "agent" else {}
        sample = Sample(event_type, subject, {**own, **(fields or {})})
        return signing.body_of(self.source, sample, at or datetime.now(UTC))

    def extended(self, raw: str) -> bytes:
        """Return a body with one more field, ``check``, that holds *raw*: JSON text, or percent-encoded for a form."""
        body = self.body()
        return body + f"&Check={raw}".encode() if self.form else body.rstrip()[:-1] + f', "check": {raw}}}'.encode()

    def signed(self, body: bytes | None = None, timestamp: str = "", secret: bytes = b"") -> Delivery:
        """Return a delivery of *body*, or of a new event. *timestamp*: if not now, where one is signed."""
        body = self.body() if body is None else body
        delivery = signing.sign(self.source, body, timestamp or str(int(time.time())), secret)
        return replace(delivery, headers={"host": self.host, "user-agent": "receiver-check", **delivery.headers})

    def forged(self, body: bytes | None = None) -> Delivery:
        """Return a delivery that is signed with a secret of nobody's."""
        return self.signed(body, secret=secrets.token_hex(16).encode())

    def send(self, delivery: Delivery, *more: tuple[str, str], without: Iterable[str] = ()) -> Reply:
        """Return the answer to a whole request on a connection of its own. Raises OSError where none is taken."""
        return self.send_bytes(wire.whole(delivery, *more, without=without), delivery.method)

    def send_bytes(self, request: bytes, method: str = "POST") -> Reply:
        """As send, of any bytes. Raises OutOfTime."""
        if time.monotonic() > self.until:
            raise OutOfTime
        return self.noted(wire.exchange(self.to, request, method))

    def noted(self, reply: Reply) -> Reply:
        """Return the answer, kept for the items that judge all of them."""
        self.replies.append(reply)
        return reply

    def count(self, delivery: Delivery, expected: int = 1) -> int | None:
        """Return how many events a delivery made, waiting a while for as many as *expected*; None without a probe."""
        if self.probe is None:
            return None
        named = self.source.adapter.identify(delivery, self.source.options)[0]
        until = time.monotonic() + COUNT_SECONDS
        while (found := self.probe(self.source, delivery, named)) < expected and time.monotonic() < until:
            time.sleep(0.05)
        return found
