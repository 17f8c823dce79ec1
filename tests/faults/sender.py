"""Providers, as a receiver meets them: open loop, each delivery at its time, retried as its provider does.

Latency counts from the planned time, so that a receiver that stalls is charged for everybody who waits meanwhile.
"""

import asyncio
import json
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Literal

from receiver import samples
from receiver.delivery import Delivery
from receiver.providers import agent, standard_webhooks
from receiver.settings import Source
from tests.faults.history import History, What
from tests.faults.traffic import Planned

Failure = Literal["connect", "timeout", "4xx", "5xx"]
EXPECTED = {"forged": 401, "too large": 413}  # every other is a 2xx
IDLE = 70.0  # seconds after which a kept connection is not used any more: the receiver keeps them for 75


@dataclass(frozen=True)
class Policy:
    """How a provider delivers. In seconds: connect and answer of one try; total of all.

    again: for each failure that is tried again, the waits before the tries that follow. A connection that breaks off
    counts as a timeout: something was sent, and nothing came back.
    """

    connect: float
    answer: float
    again: Mapping[Failure, tuple[float, ...]] = field(default_factory=dict)
    total: float = float("inf")


def every(*waits: float) -> dict[Failure, tuple[float, ...]]:
    return dict.fromkeys(("connect", "timeout", "4xx", "5xx"), waits)


# twilio.com/docs/usage/webhooks/webhooks-connection-overrides: 15 s in all, one retry and only where it could not
# connect; "#rc=5&rp=all" is what a careful user sets. developers.dialpad.com/docs/webhook-delivery-failures: 5 s, 5xx
# after 2, 4 and 8 s, connections at most twice and quickly, 4xx never. Vapi: no retry without a backoffPlan. The agent:
# its configuration guide. Standard Webhooks: the schedule that its specification gives as an example.
POLICIES: dict[str, Policy] = {
    "twilio": Policy(5, 15, {"connect": (0.0,)}, total=15),
    "twilio rc=5": Policy(5, 15, every(0, 0, 0, 0, 0), total=15),
    "vapi": Policy(5, 20),
    "dialpad": Policy(5, 5, {"5xx": (2, 4, 8), "timeout": (2, 4, 8), "connect": (0.1, 0.1)}),
    "agent": Policy(5, 10, every(2, 4)),
    "standard": Policy(5, 15, every(5, 300, 1800)),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One attempt's end. at: its planned time, seconds after the start; took: seconds from then; status: 0 if none."""

    at: float
    took: float
    status: int
    failure: Failure | None
    noise: str


class NotConnected(OSError):
    """Nothing was sent."""


class Sender:
    """Sends a plan to the receiver at *port*, and keeps every answer."""

    def __init__(
        self, port: int, sources: Iterable[Source], history: History, policies: Mapping[str, Policy] = POLICIES
    ) -> None:
        self.port = port
        self.sources = {source.name: source for source in sources}
        self.history = history
        self.policies = policies
        self.answers: list[Answer] = []
        self.acked: set[str] = set()
        self.unsound: set[str] = set()  # keys of what may end as a dead letter
        self.idle: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.began = 0.0

    @property
    def now(self) -> float:
        """Seconds since the start, 0 before it."""
        return time.monotonic() - self.began if self.began else 0.0

    @property
    def failed(self) -> list[Answer]:
        """The attempts at genuine deliveries that were not answered 2xx."""
        return [one for one in self.answers if one.noise not in EXPECTED and not 200 <= one.status < 300]

    @property
    def wrong(self) -> list[Answer]:
        """The answers to noise that are others than they must be."""
        return [one for one in self.answers if one.noise in EXPECTED and one.status not in (0, EXPECTED[one.noise])]

    async def run(self, plan: Iterable[Planned], retries_end: float = float("inf")) -> None:
        """Send everything, and return when the last is answered or given up.

        retries_end: so many seconds after the start nobody tries again any more.
        """
        self.began, today = time.monotonic(), datetime.now(UTC)
        async with asyncio.TaskGroup() as tasks:
            for planned in plan:
                await asyncio.sleep(planned.at - self.now)
                delivery = build(self.sources[planned.source], planned, today)
                tasks.create_task(self._deliver(planned, delivery, retries_end))
                if planned.again is not None:
                    later = replace(planned, at=planned.at + planned.again, new_connection=True)
                    tasks.create_task(self._deliver(later, delivery, retries_end))
        for _, _, writer in self.idle:
            writer.close()
        self.idle.clear()

    async def _deliver(self, planned: Planned, delivery: Delivery, retries_end: float) -> None:
        policy, at, key = self.policies[planned.source], planned.at, self._key(planned, delivery)
        for tried in count():
            await asyncio.sleep(at - self.now)
            failure = await self._attempt(planned, delivery, key, at, policy)
            if failure is None or planned.noise in EXPECTED:
                return
            schedule = policy.again.get(failure, ())
            if tried >= len(schedule):
                return
            at = self.now + schedule[tried]
            if at > retries_end or at - planned.at > policy.total:
                return

    async def _attempt(
        self, planned: Planned, delivery: Delivery, key: str, at: float, policy: Policy
    ) -> Failure | None:
        """Send it once, note both ends, and return how it failed."""
        known = planned.noise not in EXPECTED  # the others are in no history: were one stored, nobody has sent it
        if known:
            self.history.note(key, delivery.body, "invoke")
        status = 0
        failure: Failure | None = None
        try:
            async with asyncio.timeout(min(policy.answer, policy.total - (self.now - planned.at))):
                status = await self._exchange(delivery, policy, new=planned.new_connection)
        except NotConnected:
            failure = "connect"
        except (OSError, TimeoutError, ValueError, EOFError):
            failure = "timeout"
        if status >= 300:
            failure = "5xx" if status >= 500 else "4xx"
        if known:
            what: What = "ok" if failure is None else "info" if failure == "timeout" else "fail"
            self.history.note(key, delivery.body, what, status)
            if what == "ok":
                self.acked.add(key)
        self.answers.append(Answer(at, self.now - at, status, failure, planned.noise))
        return failure

    async def _exchange(self, delivery: Delivery, policy: Policy, *, new: bool) -> int:
        """Return the status of one request. Raises NotConnected, OSError, ValueError or EOFError."""
        reader, writer = await self._connection(policy, new=new)
        kept = False
        try:
            writer.write(_request(delivery, close=new))
            with suppress(ConnectionError):  # answered before all was sent
                await writer.drain()
            status, kept = await _response(reader)
            kept = kept and not new
            return status
        finally:
            if kept:
                self.idle.append((time.monotonic(), reader, writer))
            else:
                writer.close()

    async def _connection(self, policy: Policy, *, new: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self.idle and not new:
            since, reader, writer = self.idle.pop()
            if time.monotonic() - since < IDLE and not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        try:
            async with asyncio.timeout(policy.connect):
                return await asyncio.open_connection("127.0.0.1", self.port)
        except (OSError, TimeoutError) as error:
            raise NotConnected(str(error)) from error

    def _key(self, planned: Planned, delivery: Delivery) -> str:
        source = self.sources[planned.source]
        (event,) = source.adapter.identify(delivery, source.options)
        key = f"{source.name}/{event.event_id}"
        if planned.noise in ("malformed", "poison"):
            self.unsound.add(key)
        return key


def build(source: Source, planned: Planned, today: datetime) -> Delivery:
    """Return a delivery as its provider would sign it; *today*: when the run began."""
    made = samples.build(source, planned.sample, today + timedelta(seconds=planned.at))
    if planned.noise == "malformed":
        body = made.body[:-1]  # signed, and not JSON
        return replace(made, body=body, headers={**made.headers, agent.SIGNATURE: agent.sign(_secret(source), body)})
    if source.name == "standard" and not planned.sample.forged:
        identifier, stamp = "msg_" + json.loads(made.body)["event_id"], str(int(today.timestamp() + planned.at))
        headers = {
            "content-type": "application/json", "webhook-id": identifier, "webhook-timestamp": stamp,
            "webhook-signature": standard_webhooks.sign(_secret(source), identifier, stamp, made.body),
        }  # fmt: skip
        return replace(made, headers=headers)
    return made


def _secret(source: Source) -> bytes:
    return source.secrets[0].value


def _request(delivery: Delivery, *, close: bool) -> bytes:
    headers = {
        "host": "inbox.test", "content-length": str(len(delivery.body)), **delivery.headers,
        **({"connection": "close"} if close else {}),
    }  # fmt: skip
    lines = [f"{delivery.method} {delivery.target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + delivery.body


async def _response(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """Return the status, and whether the connection is kept; the body is read and dropped."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    first, *lines = head.split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines if line)
    length = headers.get("content-length")
    await (reader.read() if length is None else reader.readexactly(int(length)))
    return int(first.split()[1]), length is not None and headers.get("connection") != "close"
