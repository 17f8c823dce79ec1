"""The ASGI app: the door for deliveries, and beside it whether the process lives and can store."""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from receiver.background_log import in_background
from receiver.door import Door
from receiver.keeper import Keeper
from receiver.metrics import serve
from receiver.quarantine import Quarantine
from receiver.refusals import EVERY, Refusals
from receiver.settings import RESERVED, BadSettings, Settings, from_environ
from receiver.store import DEADLINE
from sql import log as log_lines

RECEIPT_DEADLINE = 10.0  # seconds for a request's body to arrive
READY_SECONDS = 1.0  # how long an answer of /readyz is reused


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

    def __init__(self, door: Door, **options: Any) -> None:
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
