"""Clients that send nothing, or slowly, or take no answer: cut in time, and nobody else waits for them."""

import socket
from contextlib import ExitStack

import pytest

from receiver.http.connection import Limits
from receiver.settings import MAX_BODY
from tests.http_receiver import rows
from tests.processes import wait_for
from tests.receiver_fixtures import BASE_URL, SECRETS, SOURCES, connection, db, start
from tests.signing import reminder

__all__ = ["connection", "db", "start"]

SENT = reminder(1)
HEAD = b"POST /webhooks/agent HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
DELIVERY = b"\r\n".join(
    [
        b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d" % (SENT.target.encode(), len(SENT.body)),
        *(f"{name}: {value}".encode() for name, value in SENT.headers.items()),
        b"\r\n" + SENT.body,
    ]
)
LIVE = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
PATIENT = 30.0  # seconds


@pytest.fixture
def served(start, db):
    """Function that starts a receiver with these limits."""
    return lambda **limits: start(SOURCES, {"BASE_URL": BASE_URL, **SECRETS}, limits=Limits(**limits))


def connect(receiver):
    return socket.create_connection(receiver.address, timeout=PATIENT)


def rest(client):
    """Return what comes until the other side hangs up."""
    return b"".join(iter(lambda: client.recv(65536), b""))


def is_closed(client):
    """Tell whether the other side closes without an answer."""
    try:
        return rest(client) == b""
    except ConnectionResetError:
        return True


def trickle(client, piece):
    """Send *piece* again and again until something is answered; return that."""
    client.settimeout(0.02)
    for _ in range(1500):
        try:
            return client.recv(65536)
        except TimeoutError:
            client.sendall(piece)
    raise AssertionError("never cut")


def is_cut(client, data):
    """Send *data* again and again; tell whether that is ended by the other side."""
    try:
        for _ in range(100_000):
            client.sendall(data)
    except (ConnectionResetError, BrokenPipeError):
        return True
    return False


def test_an_hour_of_patience_is_no_default():
    assert (Limits().receipt, Limits().keep_alive, Limits().answer) == (10, 75, 10)


def test_f_12_who_connects_and_says_nothing_is_cut_without_a_word(served):
    with connect(served(receipt=0.2)) as client:
        assert rest(client) == b""


def test_f_12_half_a_head_is_cut(served):
    with connect(served(receipt=0.2)) as client:
        client.sendall(HEAD[:40])

        assert rest(client).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("begun", [HEAD[:-2], HEAD], ids=["fields", "body"])
def test_f_12_a_trickle_does_not_put_the_end_off(begun, served, db):
    with connect(served(receipt=0.3)) as client:
        client.sendall(begun)

        assert trickle(client, b"x").startswith(b"HTTP/1.1 408 ")


def test_f_08_a_body_that_was_asked_for_and_withheld_is_cut(served):
    with connect(served(receipt=0.2)) as client:
        client.sendall(HEAD[:-2] + b"Expect: 100-continue\r\n\r\n")

        first, _, second = rest(client).partition(b"\r\n\r\n")
        assert (first[:12], second[:12]) == (b"HTTP/1.1 100", b"HTTP/1.1 408")


def test_f43_a_connection_that_was_answered_may_be_idle_for_longer(served):
    receiver = served(receipt=0.2)
    with connect(receiver) as kept, connect(receiver) as idle:
        kept.sendall(LIVE)
        assert kept.recv(1000).startswith(b"HTTP/1.1 200 ")
        assert rest(idle) == b""

        with connect(receiver) as later:
            assert rest(later) == b""
        kept.sendall(LIVE)
        assert kept.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_f43_but_not_for_ever(served):
    with connect(served(keep_alive=0.2)) as client:
        client.sendall(LIVE)

        assert rest(client).startswith(b"HTTP/1.1 200 ")


def test_who_takes_no_answers_is_cut(served):
    with connect(served(answer=0.2)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

        assert is_cut(client, LIVE * 100)


@pytest.mark.parametrize("size", [MAX_BODY + 1, 3 * MAX_BODY])
def test_who_sends_all_of_a_body_that_is_refused_still_reads_why(size, served):
    with connect(served(linger=PATIENT)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # so that it isn't all on its way at once
        client.sendall(HEAD.replace(b"100", b"%d" % size) + b"x" * size)

        assert client.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_but_nobody_lingers_for_ever(served):
    with connect(served(linger=0.2)) as client:
        client.sendall(HEAD.replace(b"100", b"10000000"))

        assert client.recv(1000).startswith(b"HTTP/1.1 413 ")
        assert is_cut(client, bytes(65536))


def test_when_all_connections_are_taken_who_waits_gives_way_to_who_sends(served, db):
    receiver = served(connections=20, receipt=3600)
    with ExitStack() as stack:
        kept = stack.enter_context(connect(receiver))
        kept.sendall(DELIVERY)
        assert kept.recv(1000).startswith(b"HTTP/1.1 200 ")
        idle = [stack.enter_context(connect(receiver)) for _ in range(50)]
        slow = [stack.enter_context(connect(receiver)) for _ in range(50)]
        for client in slow[-10:]:
            client.sendall(HEAD + b"{")

        assert [reminder(n).to(receiver).status for n in range(30)] == [200] * 30
        assert len(rows(db)) == 30  # number 1 is what was kept
        assert is_closed(idle[0])
        kept.sendall(LIVE)
        assert kept.recv(1000).startswith(b"HTTP/1.1 200 "), "who brought a delivery is the last to go"


@pytest.mark.parametrize("bought", [LIVE, HEAD + bytes(100)], ids=["livez", "forged"])
def test_an_answer_that_anybody_gets_buys_no_place(bought, served, db):
    receiver = served(connections=20, receipt=3600)
    with ExitStack() as stack:
        for client in [stack.enter_context(connect(receiver)) for _ in range(19)]:
            client.sendall(bought)
            assert client.recv(1000).startswith(b"HTTP/1.1 ")
        honest = stack.enter_context(connect(receiver))
        honest.sendall(DELIVERY[:-1])
        for _ in range(10):
            stack.enter_context(connect(receiver))
        assert reminder(2).to(receiver).status == 200

        honest.sendall(DELIVERY[-1:])

        assert honest.recv(1000).startswith(b"HTTP/1.1 200 ")
        assert len(rows(db)) == 2


def test_when_bodies_hold_too_much_memory_the_largest_gives_way(served, db):
    receiver = served(held=MAX_BODY)
    with connect(receiver) as large, connect(receiver) as small:
        small.sendall(HEAD + b"{")
        large.sendall(HEAD.replace(b"100", b"%d" % MAX_BODY) + b"x" * (MAX_BODY - 1))
        with connect(receiver) as another:
            another.sendall(HEAD.replace(b"100", b"100000") + b"x" * 99_999)
            assert is_closed(large)
            another.sendall(b"x")
            assert another.recv(1000).startswith(b"HTTP/1.1 401 ")
        small.sendall(b"x" * 99)
        assert small.recv(1000).startswith(b"HTTP/1.1 401 ")


def test_when_the_largest_is_not_enough_the_next_one_gives_way_in_the_same_moment(served):
    receiver = served(held=3 * MAX_BODY)
    house = receiver.server.house
    with connect(receiver) as one, connect(receiver) as another:
        for client in (one, another):
            client.sendall(HEAD.replace(b"100", b"%d" % MAX_BODY) + b"x" * (MAX_BODY - 1))
        wait_for(lambda: house.held == 2 * (MAX_BODY - 1))

        receiver.loop.call_soon_threadsafe(lambda: [house.full(), house.full()])

        assert is_closed(one)
        assert is_closed(another)
        assert house.held == 0
