"""FastAPI in front of PgQueuer: a job a request, deduplicated by the body's digest. Verifies nothing."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from typing import Any

import asyncpg
from fastapi import FastAPI, Request
from pgqueuer.db import AsyncpgPoolDriver
from pgqueuer.errors import DuplicateJobError
from pgqueuer.queries import Queries
from psycopg.conninfo import conninfo_to_dict


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Have the tables, and the pool open."""
    async with asyncpg.create_pool(**address(os.environ["DATABASE_URL"]), min_size=10, max_size=10) as pool:
        app.state.queries = Queries(AsyncpgPoolDriver(pool))
        await app.state.queries.install()
        yield


def address(dsn: str) -> dict[str, Any]:
    """Return libpq's connection string as asyncpg takes it, which reads URLs alone."""
    given = conninfo_to_dict(dsn)
    names = {"host": "host", "port": "port", "user": "user", "password": "password", "dbname": "database"}
    return {theirs: given[ours] for ours, theirs in names.items() if ours in given}


app = FastAPI(lifespan=lifespan)


@app.post("/webhooks/twilio")
async def receive(request: Request) -> None:
    """Enqueue the body."""
    body = await request.body()
    with suppress(DuplicateJobError):
        await request.app.state.queries.enqueue("receive", body, dedupe_key=sha256(body).hexdigest())
