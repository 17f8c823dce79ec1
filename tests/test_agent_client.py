"""What our voice agent tells, by either client, is stored: once an event, whatever the network does meanwhile."""

import asyncio
import json
import logging
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from handlers import sending
from handlers.agent_client import AgentClient, AsyncAgentClient, Undelivered
from tests.far_side import DEADLINE, far_side, hand_to
from tests.http_receiver import duplicates, rows
from tests.processes import free_port
from tests.receiver_fixtures import AGENT_SECRET, connection, db, receiver, start

__all__ = ["connection", "db", "receiver", "start"]

URL = "https://inbox.example.com/api/webhooks/call-status"


@pytest.fixture
def there():
    with far_side() as running:
        yield running


@pytest.fixture
def waits():
    return []


@pytest.fixture(params=["sync", "async"])
def tell(request, waits):
    """Function that tells something by one of the clients, with no real wait between the attempts."""

    async def wait(seconds):
        waits.append(seconds)

    def synchronous(url, method, *args, secret=AGENT_SECRET, timeout=DEADLINE, **fields):
        getattr(AgentClient(url, secret, timeout=timeout, sleep=waits.append), method)(*args, **fields)

    def asynchronous(url, method, *args, secret=AGENT_SECRET, timeout=DEADLINE, **fields):
        client = AsyncAgentClient(url, secret, timeout=timeout, sleep=wait)
        asyncio.run(getattr(client, method)(*args, **fields))

    return synchronous if request.param == "sync" else asynchronous


def url_of(receiver):
    return "http://{}:{}/webhooks/agent".format(*receiver.address)


def test_an_answered_call_is_stored_with_its_reminder_and_time(receiver, db, tell):
    before = datetime.now(UTC) - timedelta(milliseconds=1)

    tell(url_of(receiver), "call_answered", "rem_1")

    (event,) = rows(db)
    assert (event.event_type, event.subject, event.payload["event_id"]) == (
        "call.answered", "reminder/rem_1", event.event_id,
    )  # fmt: skip
    assert before <= event.occurred_at <= datetime.now(UTC)
    assert event.payload.keys() == {"reminder_id", "event_type", "event_id", "occurred_at"}


def test_a_completed_call_is_stored_with_its_outcome(receiver, db, tell):
    tell(
        url_of(receiver), "call_completed", "rem_1", connected=True, duration=45, customer_response="will_pay_today",
        notes="Customer confirmed payment",
    )  # fmt: skip

    (event,) = rows(db)
    assert event.event_type == "call.completed"
    assert event.payload["outcome"] == {
        "connected": True, "duration": 45, "customer_response": "will_pay_today", "notes": "Customer confirmed payment",
    }  # fmt: skip


def test_a_failed_call_is_stored_as_not_connected(receiver, db, tell):
    tell(url_of(receiver), "call_failed", "rem_1", customer_response="no_answer")

    (event,) = rows(db)
    assert event.event_type == "call.failed"
    assert event.payload["outcome"] == {"connected": False, "duration": 0, "customer_response": "no_answer"}


def test_any_other_event_can_be_sent(receiver, db, tell):
    tell(url_of(receiver), "send", "call_transferred", "rem_1", {"to": "a colleague"}, event_id="own-1")

    (event,) = rows(db)
    assert (event.provider_type, event.event_id, event.payload["outcome"]) == (
        "call_transferred", "own-1", {"to": "a colleague"},
    )  # fmt: skip


def test_a_time_of_another_zone_is_sent_as_utc(receiver, db, tell):
    at = datetime(2026, 11, 21, 20, 30, 15, 250000, tzinfo=timezone(timedelta(hours=5, minutes=30)))

    tell(url_of(receiver), "call_answered", "rem_1", occurred_at=at)

    (event,) = rows(db)
    assert event.occurred_at == at
    assert event.payload["occurred_at"] == "2026-11-21T15:00:15.250+00:00"


def test_two_calls_for_one_reminder_that_end_alike_are_two_events(receiver, db, tell):
    at = datetime(2026, 11, 21, tzinfo=UTC)
    for _ in range(2):
        tell(url_of(receiver), "call_failed", "rem_1", customer_response="no_answer", occurred_at=at)

    assert [event.subject for event in rows(db)] == ["reminder/rem_1"] * 2
    assert duplicates(db) == []


def test_a_retry_after_a_lost_answer_is_one_event(receiver, db, there, tell, waits):
    there.hang_up(after=hand_to(receiver))
    there.answers.append(hand_to(receiver))

    tell(there.url, "call_answered", "rem_1")

    assert waits == [2.0]
    assert len(rows(db)) == len(duplicates(db)) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 599])
def test_three_attempts_wait_2_s_and_4_s_and_send_the_same_bytes(there, tell, waits, status):
    there.answer(status, status, 204)

    tell(there.url, "call_answered", "rem_1")

    assert waits == [2.0, 4.0]
    assert len({(got.body, got.headers["x-webhook-signature"]) for got in there.got}) == 1
    assert len(there.got) == 3


def test_after_three_attempts_it_is_undelivered_and_one_line_is_logged(there, tell, waits, caplog):
    there.answer(500, 502, 503)

    with pytest.raises(Undelivered, match="expected a 2xx, got status 503 at attempt 3") as given_up:
        tell(there.url, "call_completed", "rem_1", connected=True, duration=1, notes="a note", event_id="own-1")

    assert (given_up.value.attempts, given_up.value.status, given_up.value.event_id) == (3, 503, "own-1")
    assert waits == [2.0, 4.0]
    (line,) = caplog.messages
    assert line == "event not delivered id=own-1 type=call_completed attempts=3 cause=status 503"


def test_a_connection_that_breaks_is_tried_again(there, tell, waits):
    there.hang_up()

    tell(there.url, "call_answered", "rem_1")

    assert waits == [2.0]
    assert len(there.got) == 2


def test_no_answer_in_time_is_tried_again(there, tell, waits):
    for _ in range(3):
        there.be_silent()

    with pytest.raises(Undelivered) as given_up:
        tell(there.url, "call_answered", "rem_1", timeout=0.1)

    assert isinstance(given_up.value.__cause__, TimeoutError)
    assert waits == [2.0, 4.0]


def test_nobody_there_is_undelivered_with_its_cause(tell, waits, caplog):
    with pytest.raises(Undelivered, match="ConnectionRefusedError") as given_up:
        tell(f"http://127.0.0.1:{free_port()}/", "call_answered", "rem_1")

    assert (given_up.value.attempts, given_up.value.status) == (3, None)
    assert isinstance(given_up.value.__cause__, ConnectionRefusedError)
    assert len(caplog.messages) == 1


def test_a_refused_signature_is_final(receiver, db, tell, waits, caplog):
    with pytest.raises(Undelivered) as given_up:
        tell(url_of(receiver), "call_answered", "rem_1", secret="ANOTHERSECRET", event_id="own-1")

    assert (given_up.value.attempts, given_up.value.status, waits, rows(db)) == (1, 401, [], [])
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("handlers")]
    assert ours == ["event not delivered id=own-1 type=call_answered attempts=1 cause=status 401"]
    assert "ANOTHERSECRET" not in f"{given_up.value!r}{caplog.text}"


@pytest.mark.parametrize("status", [301, 307, 400, 404, 405, 413, 422])
def test_what_would_be_answered_the_same_again_is_final(there, tell, waits, status):
    there.answer(status)

    with pytest.raises(Undelivered) as given_up:
        tell(there.url, "call_answered", "rem_1")

    assert (given_up.value.attempts, given_up.value.status, len(there.got), waits) == (1, status, 1, [])


def test_without_a_sleep_of_ours_the_clients_wait_by_themselves(there, monkeypatch, caplog):
    caplog.set_level(logging.CRITICAL)
    monkeypatch.setattr(sending, "WAITS", (0.01, 0.01))
    there.answer(503, 503, 200, 503, 503)

    AgentClient(there.url, AGENT_SECRET).call_answered("rem_1")
    asyncio.run(AsyncAgentClient(there.url, AGENT_SECRET).call_answered("rem_1"))

    assert len(there.got) == 6


def test_an_attempt_does_not_hold_the_event_loop(there):
    meanwhile = threading.Event()

    async def both():
        loop, began = asyncio.get_running_loop(), asyncio.Event()

        def answer(got):
            loop.call_soon_threadsafe(began.set)
            return 200 if meanwhile.wait(10) else 404

        there.answers.append(answer)
        telling = asyncio.create_task(AsyncAgentClient(there.url, AGENT_SECRET, timeout=DEADLINE).call_answered("r"))
        await began.wait()
        meanwhile.set()
        await telling

    asyncio.run(both())

    assert len(there.got) == 1


@pytest.mark.parametrize("client", [AgentClient, AsyncAgentClient])
@pytest.mark.parametrize(
    ("url", "secret", "expected"),
    [
        (URL, "", "expected a secret"),
        (URL, "SECRETPW\n", "expected a secret without white space"),
        ("", "SECRETPW", "expected a URL"),
        ("inbox.example.com/api/webhooks/call-status", "SECRETPW", "expected a URL such as https://"),
        ("https://user:SECRETPW@h/", "x", "expected a URL without user"),
    ],
)
def test_an_empty_secret_and_a_bad_url_are_refused_at_once(client, url, secret, expected):
    with pytest.raises(ValueError, match=f"^agent client: {expected}") as refusal:
        client(url, secret)

    assert "SECRETPW" not in str(refusal.value)


def test_a_timeout_that_is_none_is_refused():
    with pytest.raises(ValueError, match="expected timeout > 0 seconds, got 0"):
        AgentClient(URL, AGENT_SECRET, timeout=0)


@pytest.mark.parametrize(
    ("environ", "missing"),
    [({}, "no WEBHOOK_URL and no WEBHOOK_SECRET"), ({"WEBHOOK_URL": URL, "WEBHOOK_SECRET": ""}, "no WEBHOOK_SECRET")],
)
def test_what_is_missing_in_the_environment_is_told_together(environ, missing):
    with pytest.raises(ValueError, match=missing):
        AsyncAgentClient.from_env(environ)


def test_the_environment_says_where_to_and_with_which_secret(receiver, db, monkeypatch):
    monkeypatch.setenv("WEBHOOK_URL", url_of(receiver))
    monkeypatch.setenv("WEBHOOK_SECRET", AGENT_SECRET)

    AgentClient.from_env().call_answered("rem_1")

    assert len(rows(db)) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"reminder_id": ""},
        {"reminder_id": 7},
        {"event_id": ""},
        {"event_type": ""},
        {"occurred_at": datetime(2026, 11, 21)},  # noqa: DTZ001 - that is it
        {"outcome": {"duration": float("nan")}},
    ],
)
def test_what_the_inbox_could_not_use_is_not_sent(there, fields):
    given = {"event_type": "call_answered", "reminder_id": "rem_1", **fields}

    with pytest.raises(ValueError, match=r"agent client: expected|not JSON compliant"):
        AgentClient(there.url, AGENT_SECRET).send(**given)

    assert there.got == []


def test_the_agents_process_needs_nothing_but_python():
    root = Path(__file__).parents[1]
    program = "import sys, json, handlers.agent_client; print(json.dumps(sorted(sys.modules)))"

    # -S: without the installed packages.
    done = subprocess.run([sys.executable, "-S", "-c", program], cwd=root, check=True, capture_output=True, text=True)

    assert not {"psycopg", "processor", "sql", "pydantic"} & set(json.loads(done.stdout))
