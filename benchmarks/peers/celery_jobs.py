"""Celery's jobs: ``store KIND COUNT``, or ``work`` on them until SIGTERM, acknowledged when done: at least once."""

import os
import sys
from functools import cache

import psycopg
from celery import Celery

from benchmarks.jobs import UPSERT, carried, marks

queue = Celery("jobs", broker=os.environ["REDIS_URL"])
queue.conf.update(task_ignore_result=True, task_acks_late=True, worker_prefetch_multiplier=100)
WORKER = ["worker", "--pool", "solo", "--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "warning"]


@cache
def connection() -> psycopg.Connection:
    """Return this process's connection."""
    return psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)


@queue.task(name="nothing")
def nothing(**_fields: str | int) -> None:
    """Succeed."""
    marks.called()


@queue.task(name="upsert")
def upsert(subject: str, event: int, **_fields: str | int) -> None:
    """Write one row."""
    marks.called()
    connection().execute(UPSERT, [subject, event])


def store(kind: str, count: int) -> None:
    """Send so many."""
    with queue.producer_pool.acquire(block=True) as producer:
        for number in range(count):
            queue.tasks[kind].apply_async(kwargs=carried(number), producer=producer)


if __name__ == "__main__":
    if sys.argv[1] == "store":
        store(sys.argv[2], int(sys.argv[3]))
    else:
        queue.worker_main(WORKER)
