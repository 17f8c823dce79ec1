"""G05: how long a 401 takes tells neither which sources exist nor how much of a signature was right."""

import asyncio
import statistics
import time

import pytest

from receiver.app import create_app
from receiver.settings import from_environ
from tests.receiver_fixtures import AGENT_SECRET, BASE_URL, DIALPAD_SECRET, TOKEN, VAPI_SECRET
from tests.signing import agent, twilio, vapi

FORM = [(f"Field{n}", "x" * 40) for n in range(60)]
SENT = {
    "twilio": (twilio(FORM), "x-twilio-signature"),
    "vapi": (vapi(b'{"message":{"type":"hang"}}'), "x-vapi-secret"),
    "agent": (agent(b'{"notes":"' + b"x" * 60_000 + b'"}'), "x-webhook-signature"),
    "dialpad": (agent(b"eyJhbGciOiJIUzI1NiJ9." + b"e" * 4000 + b"." + b"A" * 43), "x-webhook-signature"),
}
ROUNDS = 15


@pytest.fixture(scope="module")
def app():
    secrets = {
        "TWILIO_AUTH_TOKEN": TOKEN, "VAPI_WEBHOOK_SECRET": VAPI_SECRET,
        "DIALPAD_WEBHOOK_SECRET": DIALPAD_SECRET, "WEBHOOK_SECRET": AGENT_SECRET,
    }  # fmt: skip
    return create_app(from_environ({"DATABASE_URL": "host=nowhere.invalid", "BASE_URL": BASE_URL, **secrets}))


async def seconds(app, path, headers, body):
    """Return how long the app takes to refuse this."""
    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    statuses = []

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        statuses.append(message.get("status"))

    began = time.perf_counter()
    await app(scope, receive, send)
    took = time.perf_counter() - began
    assert statuses[0] == 401
    return took


async def medians(app, requests):
    """Return the median of each, taken in turns, so that what slows the machine slows all of them."""
    took = [[await seconds(app, *request) for request in requests] for _ in range(ROUNDS)]
    return [statistics.median(column) for column in zip(*took, strict=True)]


@pytest.mark.parametrize("provider", SENT)
def test_g05_every_401_takes_as_long(provider, app):
    sent, header = SENT[provider]
    headers = {name: str(value) for name, value in sent.headers.items()}
    right = headers.get(header, "0")
    almost = {**headers, header: right[:-2] + ("AA" if right[-2:] != "AA" else "BB")}
    wrong = {**headers, header: "A" * len(right)}
    path = f"/webhooks/{provider}"

    times = asyncio.run(
        medians(app, [("/webhooks/nobody", wrong, sent.body), (path, wrong, sent.body), (path, almost, sent.body)])
    )

    assert max(times) < 1.1 * min(times), times
