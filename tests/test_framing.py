"""Where requests begin and end: what two parsers could read differently is refused, and what is refused costs little.

The numbers F-01 ... are those of the matrix in docs/http.md.
"""

import re
import socket
from contextlib import suppress

import pytest

from tests.http_receiver import rows
from tests.receiver_fixtures import connection, db, receiver, start
from tests.signing import reminder, twilio

__all__ = ["connection", "db", "receiver", "start"]

SENT = reminder(1)
SIGNATURE = f"X-Webhook-Signature: {SENT.headers['x-webhook-signature']}"
LENGTH = f"Content-Length: {len(SENT.body)}"
CHUNKED = "Transfer-Encoding: chunked"
CHUNK = b"%x\r\n%s\r\n" % (len(SENT.body), SENT.body)


@pytest.fixture(autouse=True)
def alive(receiver):
    """Whatever a test sent, the next valid delivery is stored."""
    yield
    assert reminder("the next").to(receiver).status == 200


def head(*lines, target=SENT.target, version="1.1", method="POST"):
    return "\r\n".join([f"{method} {target} HTTP/{version}", "Host: x", *lines, "", ""]).encode()


def answers(receiver, request):
    """Send it, and return the statuses of all that is answered until the receiver hangs up."""
    with socket.create_connection(receiver.address, timeout=10) as client:
        with suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        answered = b"".join(iter(lambda: client.recv(65536), b""))
    return [int(status) for status in re.findall(rb"^HTTP/1\.1 (\d+)", answered, re.MULTILINE)]


def test_the_plain_request_is_stored(receiver, db):
    assert answers(receiver, head(SIGNATURE, LENGTH) + SENT.body) == [200]
    assert answers(receiver, head(SIGNATURE, CHUNKED) + CHUNK + b"0\r\n\r\n") == [200]
    assert [row.body for row in rows(db)] == [SENT.body]


LENGTHS = {
    "F-01 a length and chunks": head(SIGNATURE, LENGTH, CHUNKED) + CHUNK + b"0\r\n\r\n",
    "F-01 chunks and a length": head(SIGNATURE, CHUNKED, LENGTH) + CHUNK + b"0\r\n\r\n",
    "F-01 chunks in HTTP/1.0": head(SIGNATURE, CHUNKED, version="1.0") + CHUNK + b"0\r\n\r\n",
    "F-02 bare LF everywhere": (head(SIGNATURE, LENGTH) + SENT.body).replace(b"\r\n", b"\n"),
    "F-02 bare LF after the request line": head(SIGNATURE, LENGTH).replace(b"\r\n", b"\n", 1) + SENT.body,
    "F-02 bare LF between fields": head(SIGNATURE + "\nX: y", LENGTH) + SENT.body,
    "F-02 bare LF at the end": head(SIGNATURE, LENGTH)[:-2] + b"\n" + SENT.body,
    "F-02 folded by a space": head(SIGNATURE, LENGTH, "X: a\r\n b") + SENT.body,
    "F-02 folded by a tab": head(SIGNATURE, LENGTH, "X: a\r\n\tb") + SENT.body,
    "F-02 folded first": head("").replace(b"Host", b" Host") + SENT.body,
    "F-03 a length of 1e30": head(SIGNATURE, "Content-Length: 1e30") + SENT.body,
    "F-03 an endless length": head(SIGNATURE, "Content-Length: " + "9" * 5000) + SENT.body,
    "F-03 two lengths in one": head(SIGNATURE, f"{LENGTH}, 3") + SENT.body,
    "F-03 a space before the colon": head(SIGNATURE, LENGTH.replace(":", " :")) + SENT.body,
    "F-03 chunked twice": head(SIGNATURE, "Transfer-Encoding: chunked, chunked") + CHUNK + b"0\r\n\r\n",
    "F-03 chunked last": head(SIGNATURE, "Transfer-Encoding: gzip, chunked") + CHUNK + b"0\r\n\r\n",
    "F-04 a size that is none": head(SIGNATURE, CHUNKED) + b"zz\r\n{}\r\n0\r\n\r\n",
    "F-04 a size with 0x": head(SIGNATURE, CHUNKED) + b"0x2\r\n{}\r\n0\r\n\r\n",
    "F-04 a size with a sign": head(SIGNATURE, CHUNKED) + b"+2\r\n{}\r\n0\r\n\r\n",
    "F-04 no size": head(SIGNATURE, CHUNKED) + b"\r\n{}\r\n0\r\n\r\n",
    "F-04 an endless size": head(SIGNATURE, CHUNKED) + b"f" * 17 + b"\r\n{}\r\n0\r\n\r\n",
    "F-04 a chunk longer than its size": head(SIGNATURE, CHUNKED) + b"1\r\n{}\r\n0\r\n\r\n",
    "F-04 a chunk without its CRLF": head(SIGNATURE, CHUNKED) + CHUNK[:-2] + b"xx0\r\n\r\n",
    "F-04 a chunk's bare LF": head(SIGNATURE, CHUNKED) + CHUNK.replace(b"\r\n", b"\n") + b"0\r\n\r\n",
    "F-04 the last chunk's bare LF": head(SIGNATURE, CHUNKED) + CHUNK + b"0\r\n\n",
    "F-04 more chunks than a body has": head(SIGNATURE, CHUNKED) + b"1\r\nx\r\n" * 10_001 + b"0\r\n\r\n",
    "F-16 NUL in a field": head(SIGNATURE, LENGTH, "X: a\0b") + SENT.body,
    "F-16 CR in a field": head(SIGNATURE, LENGTH, "X: a\rb") + SENT.body,
    "F-16 no Host": head(SIGNATURE, LENGTH).replace(b"Host: x\r\n", b"") + SENT.body,
    "F-16 two Hosts": head(SIGNATURE, LENGTH, "Host: y") + SENT.body,
    "F-14 the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "F-14 a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "F-14 HTTP/0.9": b"POST /webhooks/agent\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", LENGTHS.values(), ids=LENGTHS)
def test_what_is_ambiguous_or_no_http_is_refused_once_and_alone(request_bytes, receiver, db):
    second = head(SIGNATURE, LENGTH, "Connection: close") + SENT.body

    assert answers(receiver, request_bytes + second) == [400]
    assert rows(db) == []


def test_f_05_each_of_many_pipelined_requests_is_proven_by_itself(receiver, db):
    valid = head(SIGNATURE, LENGTH) + SENT.body
    forged = head("X-Webhook-Signature: 0", LENGTH) + SENT.body

    assert answers(receiver, (valid + forged) * 20) == [200, 401] * 20
    assert len(rows(db)) == 1


def test_f_05_the_empty_line_that_some_clients_send_after_a_body_is_no_request(receiver, db):
    valid = head(SIGNATURE, LENGTH) + SENT.body

    assert answers(receiver, b"\r\n" + valid + b"\r\n" + valid + b"\r\n") == [200, 200]
    assert answers(receiver, b"\r\n\r\n" + valid) == [400]
    assert answers(receiver, b"\rx") == [400]


def test_f_06_a_body_broken_off_is_a_count_and_no_row(receiver, db, caplog):
    assert answers(receiver, head("Content-Length: 100", target="/webhooks/standard") + b"{}") == []
    assert rows(db) == []
    assert "delivery refused source=standard status=400 cause=the body broke off" in caplog.messages


def test_f_07_an_offer_of_http_2_does_not_lose_the_body(receiver, db):
    offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")

    assert answers(receiver, head(SIGNATURE, LENGTH, *offer) + SENT.body) == [200]
    assert [row.body for row in rows(db)] == [SENT.body]


def test_f_08_a_client_that_asks_first_is_told_to_go_on(receiver, db):
    with socket.create_connection(receiver.address, timeout=10) as client:
        client.sendall(head(SIGNATURE, LENGTH, "Expect: 100-continue", "Connection: close"))
        assert client.recv(1000).startswith(b"HTTP/1.1 100 ")
        client.sendall(SENT.body)
        assert client.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_f_08_a_body_too_large_is_refused_before_it_is_asked_for(receiver, db):
    assert answers(receiver, head("Content-Length: 10000000", "Expect: 100-continue")) == [413]


ENOUGH = [f"X-{n}: y" for n in range(96)]  # with Host, signature, length and Connection: a hundred fields


def test_f_11_a_hundred_fields_and_32_kib_are_taken(receiver, db):
    plain = head(SIGNATURE, LENGTH, "Connection: close", *ENOUGH)
    long = head(SIGNATURE, LENGTH, "Connection: close", *ENOUGH[1:], "X-Long: " + "y" * (32 * 1024 - len(plain) - 10))

    assert answers(receiver, plain + SENT.body) == [200]
    assert answers(receiver, long + SENT.body) == [200]


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (head(SIGNATURE, LENGTH, "X: y", "X: z", *ENOUGH) + SENT.body, 431),
        (head(SIGNATURE, LENGTH, *[f"X-{n}: y" for n in range(2000)]) + SENT.body, 431),
        (head(SIGNATURE, LENGTH, "X: " + "y" * 33_000) + SENT.body, 431),
        (head(SIGNATURE, LENGTH, *["X: " + "y" * 8_000] * 5) + SENT.body, 431),
        (head(SIGNATURE, LENGTH, "X: " + "y" * 1_000_000) + SENT.body, 431),
        (head(SIGNATURE, LENGTH, target="/" + "a" * 60_000) + SENT.body, 414),
        (b"x" * 1_000_000, 414),
        (head(SIGNATURE, CHUNKED) + CHUNK + b"0\r\n" + b"X: y\r\n" * 200 + b"\r\n", 400),
    ],
    ids=["101 fields", "2,000", "33 KB", "40 KB in five", "1 MB", "a URL of 60 KB", "no line", "trailers"],
)
def test_f_11_more_is_refused_and_nothing_of_it_logged(request_bytes, status, receiver, db, caplog):
    assert answers(receiver, request_bytes) == [status]
    assert rows(db) == []
    assert max(map(len, caplog.messages), default=0) < 200


def test_f_14_a_websocket_and_a_tunnel_are_methods_not_taken(receiver, db):
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: eA==")

    assert answers(receiver, head(*upgrade, "Connection: close", method="GET")) == [405]
    assert answers(receiver, head(target="example.com:443", method="CONNECT")) == [405]


@pytest.mark.parametrize("origin", ["http://inbox.test", "https://inbox.test:8443", "HTTP://a@b"])
def test_f_15_a_target_with_its_origin_is_its_path(origin, receiver, db):
    assert answers(receiver, head(SIGNATURE, LENGTH, target=origin + SENT.target) + SENT.body) == [200]
    assert answers(receiver, head(SIGNATURE, LENGTH, target=origin + "/nowhere") + SENT.body) == [401]


def test_f_15_an_address_within_the_query_stays_in_it(receiver, db):
    sent = twilio([("CallSid", "CA1")], "/webhooks/twilio/voice/status?next=https://example.com/b")

    assert sent.to(receiver).status == 200, "it is part of what is signed"


def test_f_15_no_other_form_is_a_path(receiver, db):
    assert answers(receiver, head(SIGNATURE, LENGTH, target=SENT.target[1:]) + SENT.body) == [401]


def test_f_17_a_post_without_any_length_has_no_body(receiver, db):
    assert answers(receiver, head(SIGNATURE)) == [401]


def test_an_answer_to_head_has_no_body(receiver):
    assert receiver.send("HEAD", "/livez", {}).body == b""


def test_a_connection_is_not_kept_where_the_body_was_not_read(receiver, db):
    smuggled = head(SIGNATURE, LENGTH) + SENT.body
    refused = head(f"Content-Length: {len(smuggled)}", method="PUT")

    assert answers(receiver, refused + smuggled) == [405]
    assert rows(db) == []
