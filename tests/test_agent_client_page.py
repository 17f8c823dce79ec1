"""The example of docs/agent-client.md works as it stands there; what LiveKit would do is done by a stand-in."""

import asyncio
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from handlers.agent_client import TIMEOUT
from handlers.sending import WAITS
from tests.far_side import far_side
from tests.http_receiver import rows
from tests.receiver_fixtures import AGENT_SECRET, connection, db, receiver, start

__all__ = ["connection", "db", "receiver", "start"]

PAGE = (Path(__file__).parents[1] / "docs/agent-client.md").read_text(encoding="utf-8")


class Job:
    """What the example uses of LiveKit's JobContext."""

    def __init__(self, *, somebody_joins=True):
        self.job = SimpleNamespace(metadata=json.dumps({"reminder_id": "rem_1"}))
        self.somebody_joins = somebody_joins
        self.callbacks = []

    async def connect(self):
        pass

    async def wait_for_participant(self):
        if not self.somebody_joins:
            await asyncio.Event().wait()

    def add_shutdown_callback(self, callback):
        self.callbacks.append(callback)


def run(job, url, monkeypatch):
    """Run the job as a worker does: the entrypoint, then the shutdown callbacks."""
    monkeypatch.setenv("WEBHOOK_URL", url)
    monkeypatch.setenv("WEBHOOK_SECRET", AGENT_SECRET)
    (example,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

    async def converse(ctx, result):
        result["customer_response"] = "will_pay_today"

    names: dict[str, Any] = {"converse": converse}
    exec(example.replace("timeout=30", "timeout=0.01"), names)

    async def main():
        await names["entrypoint"](job)
        for callback in job.callbacks:
            await callback()

    asyncio.run(main())


def stored(db):
    return [(event.event_type, event.subject, event.payload.get("outcome")) for event in rows(db)]


def url_of(receiver):
    return "http://{}:{}/webhooks/agent".format(*receiver.address)


def test_a_call_is_told_from_its_answer_to_its_end(receiver, db, monkeypatch):
    run(Job(), url_of(receiver), monkeypatch)

    answered, (event_type, subject, outcome) = stored(db)
    assert answered == ("call.answered", "reminder/rem_1", None)
    assert (event_type, subject, outcome["customer_response"]) == ("call.completed", "reminder/rem_1", "will_pay_today")


def test_a_call_that_nobody_took_has_failed(receiver, db, monkeypatch):
    run(Job(somebody_joins=False), url_of(receiver), monkeypatch)

    ((event_type, subject, outcome),) = stored(db)
    assert (event_type, subject, outcome["customer_response"]) == ("call.failed", "reminder/rem_1", "no_answer")


def test_a_call_goes_on_where_the_inbox_refuses(monkeypatch):
    with far_side() as there:
        there.answer(401, 401)

        run(Job(), there.url, monkeypatch)

        assert [json.loads(got.body)["event_type"] for got in there.got] == ["call_answered", "call_completed"]


def test_its_seconds_are_the_clients():
    assert f"`timeout={TIMEOUT:g}` seconds" in PAGE
    assert f"{WAITS[0]:g} s after the first failed and {WAITS[1]:g} s after the second" in PAGE
    assert f"may take {sum(WAITS) + 3 * TIMEOUT:g} s" in PAGE
