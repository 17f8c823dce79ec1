"""Between the socket and the row: which source, is it genuine, which events, commit, answer.

The order is the contract: nothing is parsed before it is proven, nothing is answered 2xx before it is
committed or on the spool's disk, and whatever is wrong with a request's proof gets one and the same 401.
"""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from receiver.background_log import in_background, info
from receiver.delivery import BadSignature, Delivery, Identity, unparseable
from receiver.insert import Saved, Unavailable
from receiver.keeper import Keeper, Spooled
from receiver.metrics import serve
from receiver.proof import proven_by
from receiver.quarantine import Quarantine
from receiver.refusals import EVERY, Refusals
from receiver.settings import MAX_BODY, RESERVED, BadSettings, Settings, Source, from_environ
from receiver.store import DEADLINE
from sql import log as log_lines

log = logging.getLogger("receiver")

RECEIPT_DEADLINE = 10.0  # seconds for a request's body to arrive
REFUSAL_SECONDS = 0.01  # from the body's last byte to a 401: longer than it takes to find out what is wrong
READY_SECONDS = 1.0  # how long an answer of /readyz is reused
LARGE_BODY = 64 * 1024  # bytes that are examined in less than some ms, whatever they are
CLOSE = (b"connection", b"close")
Reply = tuple[Message, Message]  # a whole answer, as ASGI sends it


class TooLarge(Exception):
    """The body is longer than its source takes."""


class Gone(Exception):
    """The client went away before its body was complete."""


def from_env() -> Starlette:
    """Return the app that the environment describes, for ``uvicorn --factory receiver.app:from_env``.

    Raises SystemExit with the configuration's faults.
    """
    log_lines.to_stream(os.environ)
    # A GET callback's URL holds phone numbers.
    logging.getLogger("uvicorn.access").disabled = True
    try:
        return create_app(from_environ(os.environ))
    except BadSettings as error:
        raise SystemExit(f"error: {error}") from None


def create_app(
    settings: Settings,
    *,
    now: Callable[[], float] = time.time,
    receipt_deadline: float | None = RECEIPT_DEADLINE,
    deadline: float = DEADLINE,
    refusals_every: float = EVERY,
) -> Starlette:
    """Return the ASGI app. *now*: the clock, unix seconds, that signed timestamps are held against.

    *receipt_deadline*: seconds for a body to arrive; None: the server has an earlier one of its own.
    Raises BadSettings for a spool that can't be used.
    """
    keeper = Keeper(settings, deadline)
    refusals = Refusals(settings.dsn, refusals_every)
    quarantine = Quarantine(settings.dsn, settings.quarantine, refusals_every)
    health = Health(keeper)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        with in_background():
            await keeper.open()
            refusals.start()
            quarantine.start()
            metrics = settings.metrics_at and asyncio.create_task(serve(*settings.metrics_at, keeper.read))
            yield
            if metrics:
                metrics.cancel()
            await refusals.stop()
            await quarantine.stop()
            await keeper.close()

    # Not a route: none matches every path, and what no route matches is answered in words.
    door = Door(settings, keeper, refusals, quarantine, now, receipt_deadline)
    app = Inbox(
        door,
        routes=[
            Route("/livez", health.live),
            Route("/readyz", health.ready),
        ],
        lifespan=lifespan,
    )
    app.state.refused = refusals.count  # for the server: it refuses what is no request
    app.state.draining = False  # the server says so at its end
    app.state.door = app.router.default = door
    app.router.redirect_slashes = False  # a signed request is never redirected
    return app


class Inbox(Starlette):
    """The app. A delivery goes straight to the door: what Starlette does on the way takes as long as all the rest."""

    def __init__(self, door: "Door", **options: Any) -> None:
        super().__init__(**options)
        self.door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever its path; lifespans are Starlette's."""
        if scope["type"] == "http" and not scope["path"].endswith(RESERVED):
            await self.door(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


class Health:
    """Whether the process lives, and whether it can store; the one never asks the database."""

    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper
        self.checked_at = -READY_SECONDS
        self.found: dict[str, Any] = {}

    async def live(self, _request: Request) -> Response:
        """Answer 200 as long as the event loop turns."""
        return PlainTextResponse("ok\n")

    async def ready(self, request: Request) -> Response:
        """Answer 200 when deliveries can be kept, in the database or the spool, else 503 and why not."""
        if request.app.state.draining:
            return JSONResponse({"ready": False, "reasons": ["draining"]}, status_code=503)
        if time.monotonic() - self.checked_at >= READY_SECONDS:
            self.found = await self.keeper.ready()
            self.checked_at = time.monotonic()
        return JSONResponse(self.found, status_code=200 if self.found["ready"] else 503)


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
            for message in _reply(500):
                await send(message)
            raise
        await send(start)
        await send(body)

    async def _receive(self, source: Source | None, scope: Scope, receive: Receive) -> Reply:
        method, headers = scope["method"], _headers(scope)
        methods = source.adapter.METHODS if source else ("POST",)
        if method not in methods:
            return _reply(405, b"", (b"allow", ", ".join(methods).encode()))
        if headers.get("content-encoding", "identity").lower() != "identity":
            return self._refuse(source, 415, "the body is compressed", CLOSE)
        try:
            body = await self._body(receive, headers, source.max_body if source else MAX_BODY)
        except TooLarge:
            return self._refuse(source, 413, "the body is too large", CLOSE)
        except TimeoutError:
            return self._refuse(source, 408, "the body did not arrive in time", CLOSE)
        base_url = source.base_url if source else ""
        delivery = Delivery(method, base_url, _target(scope), headers, body)
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
        """Return the body. Raises what _read raises, or TimeoutError."""
        if self.receipt_deadline is None:
            return await _read(receive, headers, most)
        async with asyncio.timeout(self.receipt_deadline):
            return await _read(receive, headers, most)

    async def _keep(self, source: Source, delivery: Delivery, events: list[Identity]) -> Reply:
        try:
            kept = await self.keeper.save(source, delivery, events)
        except Unavailable as error:
            self.keeper.metrics.count("requests_total", source=source.name, outcome="unavailable")
            log.error("delivery not stored source=%s status=503 cause=%s", source.name, error)
            return _reply(503, b"", (b"retry-after", b"5"))
        self._tell(source, events, kept)
        answer = source.adapter.answer(delivery, source.options)
        return _reply(200, answer.body, _content_type(answer.media_type))

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
        return _reply(status, b"", *headers)


def _reply(status: int, body: bytes = b"", *headers: tuple[bytes, bytes]) -> Reply:
    """Return a whole answer."""
    fields = [(b"content-length", b"%d" % len(body)), *headers]
    return (
        {"type": "http.response.start", "status": status, "headers": fields},
        {"type": "http.response.body", "body": body},
    )


@cache
def _content_type(media_type: str) -> tuple[bytes, bytes]:
    charset = "; charset=utf-8" if media_type.startswith("text/") else ""
    return b"content-type", f"{media_type}{charset}".encode()


async def _read(receive: Receive, headers: dict[str, str], most: int) -> bytes:
    """Return the body. Raises TooLarge as soon as that is known, Gone when the client hangs up."""
    announced = headers.get("content-length", "")
    if announced.isdigit() and int(announced) > most:
        raise TooLarge
    chunks, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > most:
            raise TooLarge
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def _headers(scope: Scope) -> dict[str, str]:
    fields = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]
    headers = dict(fields)
    if len(headers) < len(fields):
        headers.clear()
        for name, value in fields:
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _target(scope: Scope) -> str:
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope["query_string"]
    return (path + b"?" + query if query else path).decode("latin-1")


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
