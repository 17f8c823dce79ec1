"""Load on a receiver: a closed loop, as fast as it answers, and an open one, at fixed times whether it answers or not.

The closed loop is wrk's where that is installed, else ours, which takes a multiple of wrk's processor time from the
server that it measures. Neither looks at more of an answer than its status.
"""

import asyncio
import gc
import json
import selectors
import shutil
import subprocess
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, cycle, islice, takewhile
from pathlib import Path
from time import perf_counter

from benchmarks.prepared import Prepared

SCRIPT = Path(__file__).parent / "load.lua"
HOST = "127.0.0.1"
OPEN_MAX = 256  # connections of the open loop, made as they are needed


@dataclass(frozen=True)
class Answered:
    """How many 2xx came in so many seconds, and how long they took, in ms. In the open loop from the time due."""

    count: int
    seconds: float
    p50: float
    p99: float
    max: float


class Failed(Exception):
    """A request was not answered 2xx."""


def closed(port: int, prepared: Prepared, connections: int, seconds: float, span: tuple[int, int]) -> Answered:
    """Send the requests *span* (first and count; then again from the first), each connection its next at the answer.

    Raises Failed.
    """
    if shutil.which("wrk") and seconds >= 1:
        return _wrk(port, prepared, connections, round(seconds), span)
    requests, until = cycle(prepared.read(*span)), perf_counter() + seconds
    # One on each connection, however long that takes.
    ever = chain(islice(requests, connections), takewhile(lambda _: perf_counter() < until, requests))
    return _clients(port, ever, connections)


def each(port: int, requests: Iterable[bytes], connections: int) -> Answered:
    """Send each of *requests* once, in a closed loop. Raises Failed."""
    return _clients(port, iter(requests), connections)


def _clients(port: int, requests: Iterator[bytes], connections: int) -> Answered:
    """Send *requests*, each connection its next at the answer."""

    async def send() -> list[float]:
        times: list[float] = []

        async def client() -> None:
            connection = await Connection.open(port)
            for request in requests:
                began = perf_counter()
                await connection.exchange(request)
                times.append(perf_counter() - began)
            connection.close()

        await asyncio.gather(*(client() for _ in range(connections)))
        return times

    began = perf_counter()
    times = _run(send)
    return answered(times, perf_counter() - began)


def _wrk(port: int, prepared: Prepared, connections: int, seconds: int, span: tuple[int, int]) -> Answered:
    arguments = (prepared.path, prepared.size, *span)
    done = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", SCRIPT, f"http://{HOST}:{port}",  # noqa: S607
         "--", *map(str, arguments)],
        capture_output=True, text=True, check=True, timeout=seconds + 60,
    )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    if found["refused"] or found["broken"]:
        raise Failed(f"port {port}: {found['refused']} answers were no 2xx, {found['broken']} never came")
    return Answered(found["answers"], found["seconds"], found["p50"], found["p99"], found["max"])


def open_loop(port: int, requests: Sequence[bytes], rate: float) -> Answered:
    """Send each of *requests* when it is due, *rate* a second. Raises Failed."""

    async def send() -> list[float]:
        free: list[Connection] = []
        room = asyncio.Semaphore(OPEN_MAX)

        async def one(request: bytes, due: float) -> float:
            async with room:
                connection = free.pop() if free else await Connection.open(port)
                await connection.exchange(request)
                free.append(connection)
            return perf_counter() - due

        began = perf_counter() + 0.1
        tasks = []
        for number, request in enumerate(requests):
            due = began + number / rate
            await asyncio.sleep(due - perf_counter())
            tasks.append(asyncio.create_task(one(request, due)))
        times = await asyncio.gather(*tasks)
        for connection in free:
            connection.close()
        return times

    return answered(_run(send), len(requests) / rate)


def _run(send: Callable[[], Coroutine[None, None, list[float]]]) -> list[float]:
    """Run it without the collector's pauses, and on select(), whose time-outs are not whole milliseconds as epoll's."""
    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
            return runner.run(send())
    finally:
        gc.enable()


def answered(times: Sequence[float], seconds: float) -> Answered:
    """Return what so many seconds each come to."""
    ms = sorted(1000 * time for time in times)
    p50, p99 = (ms[min(len(ms) - 1, len(ms) * percent // 100)] for percent in (50, 99))
    return Answered(len(ms), seconds, p50, p99, ms[-1])


class Connection:
    """One kept connection of ours to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> "Connection":
        """Connect."""
        return cls(*await asyncio.open_connection(HOST, port))

    async def exchange(self, request: bytes) -> None:
        """Send one request and read its answer. Raises Failed unless that is a 2xx."""
        self.writer.write(request)
        head = await self.reader.readuntil(b"\r\n\r\n")
        if head[9:10] != b"2":
            raise Failed(f"expected a 2xx, got {head[9:12]!r}")
        lines = head.lower().split(b"\r\n")
        length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
        await self.reader.readexactly(length)

    def close(self) -> None:
        """Hang up."""
        self.writer.close()
