"""PgQueuer's jobs: ``store KIND COUNT``, or ``work`` on them until SIGTERM, in batches of 100."""

import asyncio
import json
import os
import signal
import sys

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgPoolDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from benchmarks.jobs import EFFECT, UPSERT, carried, marks, numbered

PORTION = 1000
BATCH = 100
CONNECTIONS = 10


async def store(kind: str, count: int) -> None:
    """Enqueue so many."""
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=1, max_size=1) as pool:
        queries = Queries(AsyncpgPoolDriver(pool))
        await queries.install()
        for first in range(0, count, PORTION):
            bodies = [json.dumps(carried(n)).encode() for n in range(first, min(first + PORTION, count))]
            await queries.enqueue([kind] * len(bodies), list(bodies), [0] * len(bodies))


async def work() -> None:
    """Handle what is stored, and what comes."""
    upsert_one, effect = numbered(UPSERT), numbered(EFFECT)
    # One more, for the notifications.
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=1, max_size=CONNECTIONS + 1) as pool:
        queue = PgQueuer(AsyncpgPoolDriver(pool))

        @queue.entrypoint("nothing")
        async def nothing(_job: Job) -> None:
            marks.called()

        @queue.entrypoint("upsert")
        async def upsert(job: Job) -> None:
            marks.called()
            fields = json.loads(job.payload or b"")
            await pool.execute(upsert_one, fields["subject"], fields["event"])

        @queue.entrypoint("receive")
        async def receive(job: Job) -> None:
            await pool.execute(effect, str(json.loads(job.payload or b"")["event_id"]))

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, queue.shutdown.set)
        await queue.run(batch_size=BATCH)


if __name__ == "__main__":
    asyncio.run(store(sys.argv[2], int(sys.argv[3])) if sys.argv[1] == "store" else work())
