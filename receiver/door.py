"""Between the socket and the row: which source, is it genuine, which events, commit, answer.

The order is the contract: nothing is parsed before it is proven, nothing is answered 2xx before it is
committed or on the spool's disk, and whatever is wrong with a request's proof gets one and the same 401.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from starlette.types import Receive, Scope, Send

from receiver.asgi import Gone, Reply, TooLarge, content_type, headers_of, read_body, reply, target_of
from receiver.background_log import info
from receiver.delivery import BadSignature, Delivery, Identity, unparseable
from receiver.insert import Saved, Unavailable
from receiver.keeper import Keeper, Spooled
from receiver.proof import proven_by
from receiver.quarantine import Quarantine
from receiver.refusals import Refusals
from receiver.settings import MAX_BODY, Settings, Source

log = logging.getLogger("receiver")

REFUSAL_SECONDS = 0.01  # from the body's last byte to a 401: longer than it takes to find out what is wrong
LARGE_BODY = 64 * 1024  # bytes that are examined in less than some ms, whatever they are
CLOSE = (b"connection", b"close")


class Door:
    """The ASGI endpoint of every source."""

    def __init__(  # noqa: PLR0913, PLR0917 - it is where all parts meet
        self,
        settings: Settings,
        keeper: Keeper,
        refusals: Refusals,
        quarantine: Quarantine,
        now: Callable[[], float],
        receipt_deadline: float | None,
    ) -> None:
        self.keeper = keeper
        self.refusals = refusals
        self.quarantine = quarantine
        self.now = now
        self.receipt_deadline = receipt_deadline
        self.use(settings.sources)

    def use(self, sources: tuple[Source, ...]) -> None:
        """Take these sources from the next request on; one under way keeps the source it came to."""
        for source in sources:
            _warn_of_secrets(source, self.now())
        self.by_path = {path.encode(): source for source in sources for path in source.paths}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Where that fails it is answered 500, and what failed is raised."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        source = self.by_path.get(scope.get("raw_path") or scope["path"].encode())
        try:
            start, body = await self._receive(source, scope, receive)
        except Gone:
            self.refusals.count(_name(source), 400, "the body broke off")
            return
        except Exception:
            for message in reply(500):
                await send(message)
            raise
        await send(start)
        await send(body)

    async def _receive(self, source: Source | None, scope: Scope, receive: Receive) -> Reply:
        method, headers = scope["method"], headers_of(scope)
        methods = source.adapter.METHODS if source else ("POST",)
        if method not in methods:
            return reply(405, b"", (b"allow", ", ".join(methods).encode()))
        if headers.get("content-encoding", "identity").lower() != "identity":
            return self._refuse(source, 415, "the body is compressed", CLOSE)
        try:
            body = await self._body(receive, headers, source.max_body if source else MAX_BODY)
        except TooLarge:
            return self._refuse(source, 413, "the body is too large", CLOSE)
        except TimeoutError:
            return self._refuse(source, 408, "the body did not arrive in time", CLOSE)
        base_url = source.base_url if source else ""
        delivery = Delivery(method, base_url, target_of(scope), headers, body)
        answer_at = time.monotonic() + REFUSAL_SECONDS
        try:
            if small := len(body) <= LARGE_BODY:
                proof = self._authenticate(source, delivery)
            else:  # in a thread, so that other requests don't wait for it
                proof = await asyncio.to_thread(self._authenticate, source, delivery)
        except BadSignature as error:
            self.quarantine.keep(_name(source), delivery, str(error), self.by_path.values())
            delivery.memory.clear()  # while it waits it takes up no more than its bytes
            # All at one age, so that it tells neither which paths exist nor how far a signature was right.
            await asyncio.sleep(answer_at - time.monotonic())
            return self._refuse(source, 401, str(error))
        assert source is not None  # noqa: S101 - nobody authenticates at an unknown path
        delivery = delivery.proven(proof)
        events = identified(source, delivery) if small else await asyncio.to_thread(identified, source, delivery)
        return await self._keep(source, delivery, events)

    def _authenticate(self, source: Source | None, delivery: Delivery) -> str | None:
        """Return the name of the source's secret that proves *delivery*, else raise BadSignature; None: needs none."""
        if source is None:
            raise BadSignature("no such source")
        if not source.secrets:
            return None  # settings let this pass for a source that says insecure = true, and for no other
        return proven_by(source, delivery, self.now())

    async def _body(self, receive: Receive, headers: dict[str, str], most: int) -> bytes:
        """Return the body. Raises what read_body raises, or TimeoutError."""
        if self.receipt_deadline is None:
            return await read_body(receive, headers, most)
        async with asyncio.timeout(self.receipt_deadline):
            return await read_body(receive, headers, most)

    async def _keep(self, source: Source, delivery: Delivery, events: list[Identity]) -> Reply:
        try:
            kept = await self.keeper.save(source, delivery, events)
        except Unavailable as error:
            self.keeper.metrics.count("requests_total", source=source.name, outcome="unavailable")
            log.error("delivery not stored source=%s status=503 cause=%s", source.name, error)
            return reply(503, b"", (b"retry-after", b"5"))
        self._tell(source, events, kept)
        answer = source.adapter.answer(delivery, source.options)
        return reply(200, answer.body, content_type(answer.media_type))

    def _tell(self, source: Source, events: list[Identity], kept: list[Saved] | Spooled) -> None:
        if isinstance(kept, Spooled):
            outcome = "spooled"
            for event in events:
                info(log, "delivery spooled source=%s type=%s", source.name, event.event_type)
        else:
            outcome = "repeated" if all(row.duplicate for row in kept) else "stored"
            for event, row in zip(events, kept, strict=True):
                if row.id is None:
                    log.info("delivery repeated source=%s type=%s of a deleted event", source.name, event.event_type)
                elif not row.duplicate:
                    info(log, "delivery stored source=%s type=%s id=%d", source.name, event.event_type, row.id)
                elif row.same_body:
                    info(log, "delivery repeated source=%s type=%s id=%d", source.name, event.event_type, row.id)
                else:
                    log.warning(
                        "delivery repeated with another body source=%s type=%s id=%d; the first is kept",
                        source.name,
                        event.event_type,
                        row.id,
                    )
        self.keeper.metrics.count("requests_total", source=source.name, outcome=outcome)

    def _refuse(self, source: Source | None, status: int, cause: str, *headers: tuple[bytes, bytes]) -> Reply:
        """Return an answer without a body: what a provider is sent may be spoken or texted to somebody.

        *cause* is counted, logged and kept: a fixed text, with nothing of the request in it.
        """
        self.refusals.count(_name(source), status, cause)
        self.keeper.metrics.count("requests_total", source=_name(source), outcome=str(status))
        return reply(status, b"", *headers)


def identified(source: Source, delivery: Delivery) -> list[Identity]:
    """Name every event of an authentic delivery; never raises."""
    try:
        return source.adapter.identify(delivery, source.options)
    except Exception as error:  # noqa: BLE001 - what is authentic is kept, whatever our reading of it
        log.error("delivery not understood source=%s cause=%s", source.name, type(error).__name__)
        return [unparseable(delivery, f"{source.provider}: identifying raised {type(error).__name__}")]


def _warn_of_secrets(source: Source, now: float) -> None:
    for secret in source.secrets:
        if len(secret.value) < source.adapter.SECRET_BYTES:
            log.warning(
                "secret short source=%s secret=%s; expected %d bytes or more",
                source.name,
                secret.name,
                source.adapter.SECRET_BYTES,
            )
        if dates := secret.dates(now):
            log.warning("secret %s source=%s secret=%s", dates, source.name, secret.name)
    if source.secrets and not any(secret.counts(now) for secret in source.secrets):
        log.error("no secret counts now source=%s; every delivery will be refused", source.name)


def _name(source: Source | None) -> str:
    return source.name if source else "unknown"
