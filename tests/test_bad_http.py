"""Requests that are no deliveries, or more of one than we take: their status, and never a redirect or a text."""

import asyncio
import gzip
import re
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from receiver.app import create_app
from receiver.settings import MAX_BODY, Settings, from_environ
from tests.http_receiver import duplicates, rows
from tests.receiver_fixtures import AGENT_SECRET, BASE_URL, SECRETS, SOURCES, connection, db, receiver, start
from tests.signing import Signed, agent, reminder, twilio, vapi

__all__ = ["connection", "db", "receiver", "start"]


@pytest.fixture(autouse=True)
def alive(receiver):
    """Whatever a test sent, the next valid delivery is stored."""
    yield
    assert reminder("the next").to(receiver).status == 200


def head(target="/webhooks/agent", *lines):
    return "\r\n".join([f"POST {target} HTTP/1.1", "Host: x", *lines, "", ""]).encode()


def assert_refused(reply, status, db):
    assert (reply.status, reply.body, rows(db)) == (status, b"", [])


def padded(size):
    """Return a signed JSON body of just so many bytes."""
    return agent(b'{"reminder_id":"r","notes":"' + b"x" * (size - 30) + b'"}')


def test_a_body_as_large_as_its_source_takes_is_stored(receiver, db):
    sent = padded(MAX_BODY)

    assert len(sent.body) == MAX_BODY
    assert sent.to(receiver).status == 200
    assert [row.body for row in rows(db)] == [sent.body]


@pytest.mark.parametrize("size", [MAX_BODY + 1, 16 * MAX_BODY, 512 * MAX_BODY, 10**18])
@pytest.mark.parametrize("path", ["/webhooks/agent", "/webhooks/twilio", "/webhooks/dialpad", "/nowhere"])
def test_a_larger_body_is_refused_before_it_is_read(size, path, receiver, db):
    assert_refused(receiver.exchange(head(path, f"Content-Length: {size}")), 413, db)


def test_a_larger_body_without_a_length_is_refused_where_it_passes_the_limit(receiver, db):
    chunk = b"%x\r\n%s\r\n" % (65536, b"x" * 65536)

    reply = receiver.exchange(head("/webhooks/agent", "Transfer-Encoding: chunked") + chunk * 16 + b"1\r\nx\r\n")

    assert_refused(reply, 413, db)


def test_a_chunked_body_is_stored_as_the_bytes_it_carries(receiver, db):
    sent = reminder(1)
    signature = f"X-Webhook-Signature: {sent.headers['x-webhook-signature']}"
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in sent.body) + b"0\r\n\r\n"

    reply = receiver.exchange(head(sent.target, "Transfer-Encoding: chunked", signature) + chunks)

    assert (reply.status, [row.body for row in rows(db)]) == (200, [sent.body])


def test_a_signature_in_a_trailer_is_none(receiver, db):
    sent = reminder(1)
    body = b"%x\r\n%s\r\n0\r\n" % (len(sent.body), sent.body)
    trailer = f"X-Webhook-Signature: {sent.headers['x-webhook-signature']}\r\n\r\n".encode()

    reply = receiver.exchange(head(sent.target, "Transfer-Encoding: chunked") + body + trailer)

    assert_refused(reply, 401, db)


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "gzip, gzip", "GZIP", "zstd", "identity, gzip"])
def test_a_compressed_body_is_refused(encoding, receiver, db):
    sent = agent(gzip.compress(reminder(1).body))

    assert_refused(sent.to(receiver, content_encoding=encoding), 415, db)


def test_an_encoding_that_encodes_nothing_is_accepted(receiver, db):
    assert reminder(1).to(receiver, content_encoding="Identity").status == 200


@pytest.mark.parametrize("part", [b"", b"{"])
def test_a_body_that_does_not_arrive_in_time_is_refused(part, start, db):
    impatient = start(SOURCES, {"BASE_URL": BASE_URL, **SECRETS}, receipt_deadline=0.1)

    assert_refused(impatient.exchange(head("/webhooks/agent", "Content-Length: 100") + part), 408, db)


def test_a_body_broken_off_leaves_no_row(receiver, db):
    sent = reminder(1)
    with socket.create_connection(receiver.address) as connection:
        signature = f"X-Webhook-Signature: {sent.headers['x-webhook-signature']}"
        connection.sendall(head(sent.target, signature, f"Content-Length: {len(sent.body) + 1}") + sent.body)

    assert sent.to(receiver).status == 200
    assert len(rows(db)) == 1


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "PATCH", "DELETE", "post", "BREW"])
@pytest.mark.parametrize("target", ["/webhooks/agent", "/nowhere"])
def test_another_method_is_refused_with_those_that_are_not(method, target, receiver, db):
    reply = Signed(target, reminder(1).body, reminder(1).headers, method).to(receiver)

    assert_refused(reply, 405, db)
    assert reply.headers["allow"] == "POST"


def test_twilio_may_get_but_not_put(receiver, db):
    assert receiver.send("GET", "/webhooks/twilio", {}).status == 401
    assert receiver.send("PUT", "/webhooks/twilio", {}).headers["allow"] == "POST, GET"


TARGETS = [
    "/", "//", "/webhooks", "/webhooks/", "/webhooks/agent/", "//webhooks/agent", "/webhooks//agent", "/WEBHOOKS/agent",
    "/webhooks/../webhooks/agent", "/webhooks/%61gent", "/webhooks/agent%2f", "/webhooks/agent;x", "/webhooks/agent%00",
    "/webhooks/agent%0d%0aFAKE", "/webhooks/agent%ff", "/%2e%2e%2f%2e%2e%2fetc/passwd", "/../../etc/passwd", "//w/a",
    "/webhooks/{source}", "/webhooks/%7B0.__class__%7D", "/webhooks/'%20OR%201=1", "/livez/", "/readyz/x", "*",
    "/" + "a" * 4096, "http://inbox.test/nowhere", "/favicon.ico", "/docs", "/openapi.json", "/metrics",
]  # fmt: skip
REFUSED = re.compile(r"delivery refused source=\w+ status=4\d\d cause=[\w :;,.?'-]+?( and \d+ more in \d+ s)?")


@pytest.mark.parametrize("target", TARGETS)
def test_another_path_is_answered_as_a_bad_signature_is(target, receiver, db, caplog):
    forged = Signed("/webhooks/agent", reminder(1).body, {"x-webhook-signature": "0"}).to(receiver)

    reply = Signed(target, reminder(1).body, reminder(1).headers).to(receiver)

    assert_refused(reply, 401, db)
    assert {**reply.headers, "date": ""} == {**forged.headers, "date": ""}
    assert all(REFUSED.fullmatch(line) for line in caplog.messages)


def test_a_query_does_not_change_the_source(receiver, db):
    sent = reminder(1)

    assert Signed(sent.target + "?a=1&b=/../x", sent.body, sent.headers).to(receiver).status == 200


@pytest.mark.parametrize(
    "request_bytes",
    [
        head("/webhooks/agent", "Content-Length: 1", "Content-Length: 2") + b"{}",
        head("/webhooks/agent", "Content-Length: +2") + b"{}",
        head("/webhooks/agent", "Content-Length: -1"),
        head("/webhooks/agent", "Content-Length: 0x2") + b"{}",
        head("/webhooks/agent", "Transfer-Encoding: xchunked") + b"2\r\n{}\r\n0\r\n\r\n",
        head("/webhooks/agent", "Transfer-Encoding : chunked"),
        head("/webhooks/agent", "X: a\0b"),
        head("/webhooks/agent", "X: a\rb"),
        b"POST /webhooks/agent HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"POST /webhooks/agent\r\n\r\n",
    ],
    ids=lambda value: repr(value[:90]),
)
def test_broken_http_is_refused_by_the_server(request_bytes, receiver, db):
    reply = receiver.exchange(request_bytes)

    assert (400 <= reply.status < 500, rows(db)) == (True, [])


def test_a_post_without_a_body_is_refused_unless_that_is_signed(receiver, db):
    assert_refused(receiver.exchange(head()), 401, db)


def test_a_second_request_on_a_connection_is_proven_by_itself(receiver, db):
    sent = reminder(1)
    lines = [f"X-Webhook-Signature: {sent.headers['x-webhook-signature']}", f"Content-Length: {len(sent.body)}"]
    first = head(sent.target, *lines) + sent.body
    second = head(sent.target, lines[1], "Connection: close") + sent.body

    with socket.create_connection(receiver.address, timeout=10) as connection:
        connection.sendall(first + second)
        answers = b"".join(iter(lambda: connection.recv(65536), b""))

    assert [line.split()[1] for line in answers.splitlines() if line.startswith(b"HTTP/1.1")] == [b"200", b"401"]


def test_an_upgrade_that_is_offered_is_passed_over(receiver, db):
    sent = reminder(1)

    reply = sent.to(receiver, Connection="Upgrade, HTTP2-Settings", Upgrade="h2c", HTTP2_Settings="AAMAAABk")

    assert (reply.status, [row.body for row in rows(db)]) == (200, [sent.body])


def test_http_1_0_is_spoken(receiver, db):
    sent = reminder(1)
    lines = [f"X-Webhook-Signature: {sent.headers['x-webhook-signature']}", f"Content-Length: {len(sent.body)}"]

    reply = receiver.exchange(head(sent.target, *lines).replace(b"HTTP/1.1", b"HTTP/1.0") + sent.body)

    assert (reply.status, len(rows(db))) == (200, 1)


def test_a_websocket_is_closed():
    sent = []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    app = create_app(Settings("", ()))
    asyncio.run(app({"type": "websocket", "path": "/webhooks/agent", "headers": []}, receive, send))

    assert sent == [{"type": "websocket.close"}]


def test_what_fails_in_the_door_is_answered_500_without_a_word():
    sent, times = [], [0.0]  # the clock breaks after the start

    async def receive():
        return {"type": "http.request", "body": b"{}"}

    async def send(message):
        sent.append(message)

    settings = from_environ({"DATABASE_URL": "host=nowhere.invalid", "WEBHOOK_SECRET": AGENT_SECRET})
    app = create_app(settings, now=times.pop)
    scope = {"type": "http", "method": "POST", "path": "/webhooks/agent", "query_string": b"", "headers": []}
    with pytest.raises(IndexError):
        asyncio.run(app(scope, receive, send))

    assert [message.get("status") or message["body"] for message in sent] == [500, b""]


def test_no_answer_names_the_software(receiver, db):
    for reply in (reminder(1).to(receiver), receiver.send("POST", "/nowhere", {}), receiver.send("GET", "/livez", {})):
        assert "server" not in reply.headers


@pytest.mark.parametrize("sent", [reminder(1), twilio([("CallSid", "CA1")]), vapi(b'{"message":{"type":"hang"}}')])
def test_a_hundred_deliveries_of_one_event_at_once_are_one_row(sent, receiver, db):
    with ThreadPoolExecutor(100) as pool:
        replies = list(pool.map(lambda _: sent.to(receiver), range(100)))

    assert {reply.status for reply in replies} == {200}
    assert (len(rows(db)), len(duplicates(db))) == (1, 99)
