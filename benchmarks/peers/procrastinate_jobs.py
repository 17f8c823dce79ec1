"""Procrastinate's jobs: ``store KIND COUNT``, or ``work`` on them until SIGTERM, ten at a time."""

import asyncio
import json
import os
import sys
from typing import Any

from procrastinate import App, PsycopgConnector
from psycopg_pool import AsyncConnectionPool

from benchmarks.jobs import EFFECT, UPSERT, carried, marks

PORTION = 1000
CONCURRENCY = 10

url = os.environ["DATABASE_URL"]
queue = App(connector=PsycopgConnector(conninfo=url, min_size=1, max_size=CONCURRENCY + 1))
pool = AsyncConnectionPool(url, kwargs={"autocommit": True}, min_size=1, max_size=CONCURRENCY, open=False)


@queue.task(name="nothing")
async def nothing(**_fields: Any) -> None:
    """Succeed."""
    marks.called()


@queue.task(name="upsert")
async def upsert(subject: str, event: int, **_fields: Any) -> None:
    """Write one row."""
    marks.called()
    async with pool.connection() as conn:
        await conn.execute(UPSERT, [subject, event])


@queue.task(name="receive")
async def receive(body: str) -> None:
    """Write one row, and have whoever measures told."""
    async with pool.connection() as conn:
        await conn.execute(EFFECT, [str(json.loads(body)["event_id"])])


async def store(kind: str, count: int) -> None:
    """Defer so many."""
    async with queue.open_async():
        await queue.schema_manager.apply_schema_async()
        for first in range(0, count, PORTION):
            numbers = range(first, min(first + PORTION, count))
            await queue.tasks[kind].batch_defer_async(*map(carried, numbers))


async def work() -> None:
    """Run what is deferred, and what comes."""
    async with queue.open_async(), pool:
        await queue.run_worker_async(concurrency=CONCURRENCY)


if __name__ == "__main__":
    asyncio.run(store(sys.argv[2], int(sys.argv[3])) if sys.argv[1] == "store" else work())
