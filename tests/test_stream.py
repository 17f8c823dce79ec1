"""How much of a client's is taken unasked, and when waiting for it ends."""

import asyncio
import socket
from contextlib import asynccontextmanager
from threading import Thread

import pytest

from receiver.http.stream import FULL, READ, Stream
from tests.processes import DEADLINE
from tests.receiver_fixtures import connection, db, start
from tests.test_slow_clients import HEAD, LIVE, connect, rest, served

__all__ = ["connection", "db", "served", "start"]


@asynccontextmanager
async def connected(due=DEADLINE):
    """Open a stream, and the socket at its other end."""
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    for one in (ours, theirs):
        one.setblocking(False)
    stream = Stream(memoryview(bytearray(READ)), loop.time() + due)
    await loop.connect_accepted_socket(lambda: stream, ours)
    try:
        yield stream, theirs
    finally:
        stream.abort()
        theirs.close()
        await asyncio.sleep(0)  # its end is called soon


def test_what_nobody_asks_for_is_left_in_the_socket_and_nothing_of_it_lost():
    sent = bytes(range(256)) * 16 * 1024

    async def flood():
        async with connected() as (stream, theirs):
            sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(theirs, sent))
            while not stream.paused:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0)
            for _ in range(100):
                await asyncio.sleep(0)
            left, most, came = not sending.done(), len(stream.unread), b""
            while len(came) < len(sent):
                came += await stream.read(10_000)
                most = max(most, len(stream.unread))
            await sending
            return left, most, came

    left, most, came = asyncio.run(flood())
    assert (left, came == sent) == (True, True)
    assert FULL <= most < FULL + READ


def test_a_client_whose_pipelined_requests_fill_the_buffer_to_the_byte_is_read_on(served):
    size, number = 512, 4 * FULL // 512  # the socket is left alone, and what is there ends with a whole request
    request = LIVE[:-2] + b"x: "
    request += b"y" * (size - len(request) - 4) + b"\r\n\r\n"
    with connect(served()) as client:
        sending = Thread(target=client.sendall, args=[request * number])
        sending.start()
        answers = b""
        while answers.count(b"HTTP/1.1 200 ") < number:
            answers += client.recv(READ)
        sending.join()


def test_waiting_ends_at_its_time_also_where_bytes_come_at_every_turn():
    async def trickle():
        async with connected(due=0.2) as (stream, _):
            feeding = asyncio.create_task(feed(stream))
            try:
                while await stream.read(1):
                    pass
            finally:
                feeding.cancel()

    async def feed(stream):
        while True:
            stream.space[0] = 1
            stream.buffer_updated(1)
            await asyncio.sleep(0)

    with pytest.raises(TimeoutError):
        asyncio.run(trickle())


def test_what_a_reset_connection_had_sent_is_not_worked_on():
    async def reset():
        async with connected() as (stream, _):
            stream.buffer_updated(10)
            stream.connection_lost(ConnectionResetError())
            return await stream.read(10)

    assert asyncio.run(reset()) == b""


def test_who_is_gone_is_written_nothing():
    async def write():
        async with connected() as (stream, theirs):
            theirs.close()
            for _ in range(1000):
                await stream.write(b"x" * READ, DEADLINE)

    with pytest.raises(ConnectionError):
        asyncio.run(write())


def test_a_kept_connections_next_request_has_no_more_time_than_the_first(served):
    with connect(served(receipt=0.3, keep_alive=3600)) as client:
        client.sendall(LIVE)
        assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
        client.sendall(HEAD)

        assert rest(client).startswith(b"HTTP/1.1 408 ")
