"""FastAPI in front of Celery on Redis: a task a request. It has no deduplication. Verifies nothing."""

import os
from hashlib import sha256

from celery import Celery
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool

queue = Celery("door", broker=os.environ["REDIS_URL"])
app = FastAPI()


@app.post("/webhooks/twilio")
async def receive(request: Request) -> None:
    """Send a task with the body."""
    body = await request.body()
    name = sha256(body).hexdigest()
    await run_in_threadpool(queue.send_task, "receive", [body.decode()], task_id=name, ignore_result=True)
