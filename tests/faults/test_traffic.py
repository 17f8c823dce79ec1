"""What the providers of the fault tests send, and how: by the seed, really signed, retried as each provider does."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from receiver.delivery import BadSignature
from receiver.samples import Sample
from tests.faults.history import History, read
from tests.faults.sender import POLICIES, Sender, build
from tests.faults.traffic import Load, Planned
from tests.http_receiver import settings
from tests.receiver_fixtures import BASE_URL, SECRETS

NOW = datetime(2026, 11, 20, tzinfo=UTC)
NAMES = ("twilio", "vapi", "dialpad", "agent", "standard")
LOAD = Load(rate=100, seconds=20, seed=7)


@pytest.fixture
def sources(tmp_path):
    given = [
        {"name": name, "provider": "agent" if name == "standard" else name, "secrets": [f"env:{name.upper()}"]}
        for name in NAMES
    ]
    found = settings(tmp_path, "postgresql://nobody@127.0.0.1/none", given, BASE_URL=BASE_URL, **SECRETS)
    return {source.name: source for source in found.sources}


def test_a_load_is_its_seeds():
    assert LOAD.plan() == LOAD.plan()
    assert LOAD.plan() != replace(LOAD, seed=8).plan()


def test_a_load_is_as_long_and_as_dense_as_asked_for_and_of_all_providers():
    plan = LOAD.plan()

    assert len(plan) == 2000
    assert 0 <= plan[0].at < plan[-1].at <= 21
    assert {one.source for one in plan} == set(NAMES)
    assert 10 <= sum(one.again is not None for one in plan) <= 80


def test_no_two_deliveries_are_of_one_event_and_only_the_forged_are_refused(sources):
    keys = []
    for planned in LOAD.plan():
        source = sources[planned.source]
        delivery = build(source, planned, NOW)
        try:
            source.adapter.verify(delivery, source.secrets[0].value, source.options, NOW.timestamp())
        except BadSignature:
            assert planned.noise == "forged"
            continue
        assert planned.noise != "forged"
        (event,) = source.adapter.identify(delivery, source.options)
        assert (event.parse_error is None) == (planned.noise != "malformed")
        keys.append((source.name, event.event_id))

    assert len(set(keys)) == len(keys)


@asynccontextmanager
async def answering(status):
    """The port of a server that answers everything so, and what it was sent."""
    got = []

    async def answer(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        got.append(await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0])))
        if status:
            writer.write(f"HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n".encode())
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], got


def tries(source, status, sources, path):
    """Return what one delivery comes to at a server that answers so, its provider's waits left out."""

    async def send():
        with History(path) as history:
            async with answering(status) as (port, got):
                sender = Sender(port, sources.values(), history, quick)
                await sender.run([Planned(0.0, source, Sample("call.completed"))])
                return got, sender

    given = POLICIES[source]
    quick = {source: replace(given, again={why: (0,) * len(waits) for why, waits in given.again.items()})}
    return asyncio.run(send())


@pytest.mark.parametrize(
    ("source", "status", "expected"),
    [
        ("twilio", 503, 1), ("twilio", 0, 1), ("vapi", 503, 1), ("dialpad", 429, 1), ("dialpad", 503, 4),
        ("agent", 503, 3), ("agent", 401, 3), ("standard", 503, 4), ("dialpad", 200, 1),
    ],
)  # fmt: skip
def test_each_provider_tries_as_often_as_it_does_and_sends_the_same_bytes(source, status, expected, sources, tmp_path):
    got, sender = tries(source, status, sources, tmp_path / "history")

    assert len(got) == expected
    assert len(set(got)) == 1
    assert len(sender.failed) == (0 if status == 200 else expected)


@pytest.mark.parametrize(("status", "what"), [(200, "ok"), (503, "fail"), (0, "info")])
def test_an_attempt_is_noted_before_it_begins_and_by_how_it_ended(status, what, sources, tmp_path):
    tries("vapi", status, sources, tmp_path / "history")

    lines = list(read(tmp_path / "history"))
    assert [(line.what, line.status) for line in lines] == [("invoke", 0), (what, status)]
    assert len({(line.key, line.sha) for line in lines}) == 1


def test_nobody_there_is_a_failure_to_connect_which_twilio_tries_once_more(sources, tmp_path):
    async def send():
        with History(tmp_path / "history") as history:
            async with answering(200) as (port, _):
                pass  # and not any more
            sender = Sender(port, sources.values(), history)
            await sender.run([Planned(0.0, "twilio", Sample("call.completed"))])
            return sender.failed

    assert [answer.failure for answer in asyncio.run(send())] == ["connect"] * 2
