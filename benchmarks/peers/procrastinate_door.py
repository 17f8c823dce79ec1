"""FastAPI in front of Procrastinate: a job a request, with the body's digest as queueing lock. Verifies nothing."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from hashlib import sha256

from fastapi import FastAPI, Request
from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued

queue = App(connector=PsycopgConnector(conninfo=os.environ["DATABASE_URL"], min_size=10, max_size=10))


@queue.task(name="receive")
async def handle(body: str) -> None:
    """Do nothing: no worker of this benchmark runs."""


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Have the tables, and the pool open."""
    async with queue.open_async():
        await queue.schema_manager.apply_schema_async()
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/webhooks/twilio")
async def receive(request: Request) -> None:
    """Defer a job with the body."""
    body = await request.body()
    with suppress(AlreadyEnqueued):
        await handle.configure(queueing_lock=sha256(body).hexdigest()).defer_async(body=body.decode())
