"""What one writes first: FastAPI, a pool, an INSERT ... ON CONFLICT DO NOTHING a request. Verifies nothing."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256

from fastapi import FastAPI, Request
from psycopg_pool import AsyncConnectionPool

TABLE = """
    CREATE TABLE IF NOT EXISTS naive_events (
        id bigint GENERATED ALWAYS AS IDENTITY, event_id text PRIMARY KEY, body bytea NOT NULL,
        received_at timestamptz NOT NULL DEFAULT now())
"""
INSERT = "INSERT INTO naive_events (event_id, body) VALUES (%s, %s) ON CONFLICT DO NOTHING"

pool = AsyncConnectionPool(
    os.environ["DATABASE_URL"], min_size=10, max_size=10, kwargs={"autocommit": True}, open=False
)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Have the table, and the pool open."""
    async with pool:
        async with pool.connection() as conn:
            await conn.execute(TABLE)
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/webhooks/twilio")
async def receive(request: Request) -> None:
    """Store the body under its digest."""
    body = await request.body()
    async with pool.connection() as conn:
        await conn.execute(INSERT, [sha256(body).hexdigest(), body])
