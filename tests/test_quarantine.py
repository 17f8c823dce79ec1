"""What could not be proven is kept where asked for, bounded and without secrets, and let in once it is genuine."""

import asyncio
import json
import os
import subprocess
import sys
import time
import tracemalloc
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

import sql as statements
from processor.prune import Ages, Prune
from receiver import quarantine
from receiver.delivery import Delivery
from receiver.providers import standard_webhooks
from receiver.quarantine import ALIKE_MAX, WAITING_MAX, Held, Quarantine
from receiver.settings import BadSettings, Limits, from_environ
from tests.http_receiver import Receiver, duplicates, rows, settings
from tests.processes import wait_for
from tests.receiver_fixtures import BASE_URL, SECRETS, SOURCES, STANDARD_SECRET, VAPI_SECRET
from tests.signing import Signed, agent, agent_signature, reminder, twilio
from tests.test_schema import as_role

__all__ = ["as_role"]

NEW = "new-secret-0123456789-0123456789-0"
PHONE = "5555550100"
BODY = json.dumps({"reminder_id": "rem_1", "event_type": "call_completed", "phone": PHONE}).encode()
SIGNED_LATER = Signed("/webhooks/agent", BODY, {"x-webhook-signature": agent_signature(BODY, NEW)})


@pytest.fixture
def receiving(tmp_path, dsn):
    """Function that runs a receiver with quarantine; at the end of its context, all that it keeps is in the table."""

    @contextmanager
    def run(**environ):
        every = environ.pop("every", 3600.0)
        environ = {"BASE_URL": BASE_URL, "QUARANTINE": "on", **SECRETS, **environ}
        receiver = Receiver(settings(tmp_path, dsn, SOURCES, **environ), refusals_every=every)
        try:
            yield receiver
        finally:
            receiver.stop()

    return run


@pytest.fixture
def command(tmp_path, dsn):
    """Function that runs `receiver` on a configuration in which the agent's secret is NEW."""

    def run(*arguments, **environ):
        settings(tmp_path, dsn, SOURCES, BASE_URL=BASE_URL, **SECRETS)
        environ = {"BASE_URL": BASE_URL, "WEBHOOK_SOURCES": str(tmp_path / "sources.toml"), **SECRETS, "AGENT": NEW,
                   **environ}  # fmt: skip
        return subprocess.run(
            [sys.executable, "-m", "receiver", *map(str, arguments)],
            env={**os.environ, "DATABASE_URL": dsn, **environ}, capture_output=True, check=False, timeout=60,
        )  # fmt: skip

    return run


def kept(db):
    return quarantine.listed(db, None, 1000)


def keep(receiving, *sent, **environ):
    """Have these refused and kept."""
    with receiving(**environ) as receiver:
        for one in sent:
            assert one.to(receiver).status == 401


def test_what_is_refused_is_kept_byte_for_byte_with_its_cause(receiving, db):
    body = b'{"a": "\xff\x00"}'
    keep(receiving, replace(agent(body), target="/webhooks/agent?a=1", headers={"x-webhook-signature": "0"}))

    (held,) = kept(db)
    assert (held.source, held.method, held.target) == ("agent", "POST", "/webhooks/agent?a=1")
    assert (held.body, held.body_bytes, held.whole) == (body, len(body), True)
    assert held.cause == "agent: x-webhook-signature does not match the body"
    assert held.headers["x-webhook-signature"] == "0"


def test_nothing_is_kept_unless_it_is_asked_for(receiving, db):
    keep(receiving, SIGNED_LATER, QUARANTINE="")

    assert kept(db) == []


def test_what_is_stored_or_too_large_is_not_kept(receiving, db):
    with receiving() as receiver:
        assert reminder(1).to(receiver).status == 200
        assert agent(b" " * (1024 * 1024 + 1)).to(receiver).status == 413

    assert kept(db) == []


def test_a_delivery_to_a_path_of_no_source_is_kept_as_unknowns(receiving, db):
    keep(receiving, replace(SIGNED_LATER, target="/webhooks/agents"))

    assert [held.source for held in kept(db)] == ["unknown"]


@pytest.mark.parametrize(
    "header",
    [
        "authorization", "x-vapi-secret", "x-webhook-secret", "cookie", "x-api-key", "x-signature-secret",
        "x-forwarded-authorization",
    ],
)  # fmt: skip
def test_no_header_that_may_carry_a_secret_is_kept(receiving, db, header):
    keep(receiving, Signed("/webhooks/vapi", BODY, {header: "guess-of-a-secret"}))

    assert "guess-of-a-secret" not in db.execute("SELECT headers::text FROM webhook_quarantine").fetchone()[0]


def test_a_header_that_a_source_says_carries_its_secret_is_not_kept_at_any(tmp_path):
    vapi = {"name": "vapi", "provider": "vapi", "secrets": ["env:VAPI"], "header_name": "X-My-Signature"}
    sources = settings(tmp_path, "postgresql://x/x", [vapi], VAPI=VAPI_SECRET).sources
    delivery = Delivery("POST", "", "/", {"x-my-signature": "s", "host": "a"}, b"")

    assert quarantine.kept(delivery, sources) == {"host": "a"}


def test_a_long_body_is_kept_in_part_and_can_not_be_released(receiving, db, command):
    keep(receiving, SIGNED_LATER, QUARANTINE_BODY_MAX="10")

    (held,) = kept(db)
    done = command("release", held.id)

    assert (held.body, held.body_bytes, held.whole) == (BODY[:10], len(BODY), False)
    assert done.returncode == 1
    assert b"raise QUARANTINE_BODY_MAX" in done.stdout


def test_of_each_source_the_last_so_many_are_kept(receiving, db):
    with receiving(QUARANTINE_MAX="3", every=0.02) as receiver:
        for number in range(5):
            replace(SIGNED_LATER, target=f"/webhooks/agent?n={number}").to(receiver)
            wait_for(lambda number=number: [one for one in kept(db) if one.target.endswith(f"={number}")])
        replace(SIGNED_LATER, target="/nowhere").to(receiver)

    assert [held.target[-1] for held in kept(db)] == ["e", "4", "3", "2"]


def test_of_a_flood_a_few_are_kept_and_little_memory_is_taken():
    keeping = Quarantine("", Limits())
    flood = [Delivery("POST", "", "/", {"host": "a" * 100_000}, bytes(1024 * 1024)) for _ in range(3)]

    tracemalloc.start()
    try:
        for number in range(20_000):
            keeping.keep(f"source-{number % 1000}", flood[number % 3], "no", [])
        assert tracemalloc.get_traced_memory()[0] < WAITING_MAX * 80 * 1024
    finally:
        tracemalloc.stop()
    assert len(keeping.waiting) == WAITING_MAX


def test_a_flood_at_one_source_leaves_room_for_others():
    keeping = Quarantine("", Limits())
    for source in ["agent"] * 1000 + ["twilio"]:
        keeping.keep(source, Delivery("POST", "", "/", {}, b""), "no", [])

    assert [one.source for one in keeping.waiting] == ["agent"] * ALIKE_MAX + ["twilio"]


def test_what_could_not_be_written_is_written_later(dsn, db):
    keeping = Quarantine("postgresql://inbox:pw@127.0.0.1:1/x", Limits())
    keeping.keep("agent", Delivery("POST", "", "/", {}, b"body"), "no", [])
    with pytest.raises(psycopg.OperationalError):
        asyncio.run(keeping.save())

    keeping.dsn = dsn
    asyncio.run(keeping.save())

    assert [held.body for held in kept(db)] == [b"body"]
    assert keeping.waiting == []


@pytest.mark.parametrize(
    ("name", "value"), [("QUARANTINE", "yes"), ("QUARANTINE_MAX", "0"), ("QUARANTINE_BODY_MAX", "64k")]
)
def test_a_setting_that_makes_no_sense_stops_the_start(name, value):
    with pytest.raises(BadSettings, match=f"{name}: expected"):
        from_environ({"DATABASE_URL": "postgresql://x/x", "WEBHOOK_SECRET": NEW, "QUARANTINE": "on", name: value})


def test_the_command_lists_and_shows_without_phone_number_signature_or_body(receiving, db, command):
    sent = twilio([("From", f"+1{PHONE}")], target=f"/webhooks/twilio?From=%2B1{PHONE}", url="http://another.example/")
    keep(receiving, sent, SIGNED_LATER)
    signatures = [held.headers.get("x-twilio-signature", "-----") for held in kept(db)]

    for arguments in (["list"], ["list", "--json"], ["show", 1], ["show", 2], ["show", 2, "--json"]):
        done = command("quarantine", *arguments)
        assert done.returncode == 0
        assert PHONE.encode() not in done.stdout
        assert not any(text.encode() in done.stdout for text in [*signatures, agent_signature(BODY, NEW)])
        assert b"reminder_id" not in done.stdout


def test_a_signature_is_not_shown_whole_whatever_its_header_is_called():
    at = datetime(2026, 11, 21, tzinfo=UTC)
    headers = {"x-vapi-mac": "a" * 64, "authorization": "HMAC " + "a" * 64, "host": "b" * 64}

    found = quarantine.shown(Held("vapi", "cause", "POST", "/", headers, b"", 0, at, 1))

    assert "a" * 7 not in str(found)
    assert found["headers"]["host"] == "b" * 64


def test_what_show_raw_prints_is_what_explain_reads(receiving, command, tmp_path):
    keep(receiving, SIGNED_LATER)
    raw = command("quarantine", "show", 1, "--raw").stdout
    (tmp_path / "request.http").write_bytes(raw)

    done = command("explain", "--file", tmp_path / "request.http")

    assert raw.endswith(b"\r\n\r\n" + BODY)
    assert b"genuine: proven by env:AGENT" in done.stdout


def test_the_command_explains_one_in_quarantine_and_by_default_the_newest(receiving, command):
    keep(receiving, twilio([("From", PHONE)], url="http://hooks.example.com/webhooks/twilio"), SIGNED_LATER)

    first, newest = command("explain", 1), command("explain")

    assert (first.returncode, newest.returncode) == (0, 0)
    assert b"would match with BASE_URL=http://hooks.example.com" in first.stdout
    assert b"genuine: proven by env:AGENT" in newest.stdout


def test_what_proves_genuine_after_all_is_released_as_an_event(receiving, db, command):
    keep(receiving, SIGNED_LATER)

    done = command("release", 1)

    (row,) = rows(db)
    assert (done.returncode, done.stdout.split(b"\t")[:2]) == (0, [b"1", b"released"])
    assert (row.body, row.event_type, row.verified_by) == (BODY, "call.completed", "env:AGENT")
    assert kept(db)[0].released_at is not None


def test_what_is_released_twice_or_was_delivered_since_is_a_duplicate(receiving, db, command):
    keep(receiving, SIGNED_LATER, SIGNED_LATER)

    done = command("release", 1, 2, 1)

    assert done.stdout.count(b"a duplicate of event") == 2
    assert (len(rows(db)), len(duplicates(db))) == (1, 2)


def test_what_proves_nothing_stays_and_the_others_go_on(receiving, db, command):
    keep(receiving, replace(SIGNED_LATER, headers={"x-webhook-signature": "0"}), SIGNED_LATER)

    done = command("release", 1, 99, 2)

    assert done.returncode == 1
    assert [line.split(b"\t")[1] for line in done.stdout.splitlines()] == [b"kept", b"kept", b"released"]
    assert [held.released_at is None for held in kept(db)] == [False, True]


def test_a_signed_time_is_held_against_when_the_delivery_came(receiving, db, command):
    then = int(time.time())
    sent = Signed("/webhooks/standard", BODY, {
        "webhook-id": "msg_1", "webhook-timestamp": str(then),
        "webhook-signature": standard_webhooks.sign(STANDARD_SECRET.encode(), "msg_1", str(then), BODY)})  # fmt: skip
    keep(receiving, sent, STANDARD="whsec_" + "A" * 32)
    db.execute("UPDATE webhook_quarantine SET received_at = received_at - interval '1 hour'")
    assert command("release", 1).returncode == 1

    db.execute("UPDATE webhook_quarantine SET received_at = to_timestamp(%s)", [then])
    assert command("release", 1).returncode == 0
    assert [row.event_id for row in rows(db)] == ["msg_1"]


def test_what_is_forced_in_says_by_whom_and_why(receiving, db, command):
    keep(receiving, replace(SIGNED_LATER, headers={"x-webhook-signature": "0"}))

    assert command("release", 1, "--force", " ").returncode == 2
    assert command("release", 1, "--force", "the agent lost its secret").returncode == 0

    assert rows(db)[0].verified_by.startswith("released by ")
    assert rows(db)[0].verified_by.endswith(": the agent lost its secret")


def test_what_is_forced_in_needs_a_source_all_the_same(receiving, db, command):
    keep(receiving, replace(SIGNED_LATER, target="/nowhere"))

    done = command("release", 1, "--force", "why not")

    assert (done.returncode, rows(db)) == (1, [])
    assert b"no source has its path" in done.stdout


@pytest.mark.parametrize("arguments", [["quarantine", "list"], ["quarantine", "show", 7], ["explain"], ["explain", 7]])
def test_where_there_is_nothing_the_commands_exit_with_3(command, db, arguments):
    assert command(*arguments).returncode == 3


def test_retention_deletes_what_is_in_quarantine_too(db, dsn):
    add = "INSERT INTO webhook_quarantine (source, cause, received_at, method, target, headers, body, body_bytes) "
    db.execute((add + "VALUES ('agent', 'no', now(), 'POST', '/', '{}', '', 0)").encode())
    db.execute((add + "VALUES ('agent', 'no', '2020-01-01', 'POST', '/', '{}', '', 0)").encode())

    Prune(Ages(events=timedelta(days=90))).run(db)

    assert [held.id for held in kept(db)] == [1]


def test_the_receivers_role_can_keep_and_trim_and_not_read(as_role):
    one = {"source": "agent", "cause": "no", "seconds": 0.0, "method": "POST", "target": "/", "headers": "{}",
           "body": b"", "body_bytes": 0}  # fmt: skip
    as_role("webhook_receiver", statements.load("insert_quarantine"), one)
    as_role("webhook_receiver", statements.load("trim_quarantine"), {"source": "agent", "most": 1})
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_role("webhook_receiver", "SELECT body FROM webhook_quarantine")


def test_the_releasers_role_can_read_release_and_insert(as_role):
    as_role("webhook_releaser", statements.load("list_quarantine"), {"source": None, "id": None, "most": 1})
    as_role("webhook_releaser", statements.load("mark_released"), {"id": 1})
    as_role("webhook_releaser", "INSERT INTO webhook_events (source, provider, event_id, event_type, payload)"
                                " VALUES ('a', 'agent', '1', 'other', '{}')")  # fmt: skip
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_role("webhook_releaser", "UPDATE webhook_quarantine SET body = ''")


def test_the_pruners_role_can_forget_and_leave_tombstones(as_role):
    for name in ("prune_events", "purge_events", "prune_quarantine", "prune_tombstones", "count_tombstones",
                 "prune_duplicates"):  # fmt: skip
        as_role("webhook_pruner", statements.load(name), {"ids": [1], "before": "2100-01-01", "most": 10})
