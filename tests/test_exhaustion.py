"""A receiver under attack, as a process of its own: its memory, its files, its log; and whom it still serves."""

import asyncio
import os
import resource
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from benchmarks.server import answers
from tests.processes import DEADLINE, SECRET, agent_event, free_port, post, wait_for

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")

MIB = 1024  # kB
HEAD = b"POST /webhooks/agent HTTP/1.1\r\nHost: x\r\nX-Webhook-Signature: 0\r\n"


class Victim:
    """A receiver, and what it takes up."""

    def __init__(self, dsn, log, files=None):
        self.port = free_port()
        command = [sys.executable, "-m", "receiver", "run", "--port", str(self.port)]
        if files:
            command = ["/bin/sh", "-c", f'ulimit -n {files}; exec "$@"', "sh", *command]
        self.process = subprocess.Popen(
            command, env={**os.environ, "DATABASE_URL": dsn, "WEBHOOK_SECRET": SECRET}, stderr=log
        )
        wait_for(lambda: answers(self.port))

    def deliver(self, event_id):
        return post(self.port, *agent_event(event_id))

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE)

    def peak(self):
        """Return the most memory it ever had, in kB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))

    def cpu(self):
        """Return the processor time it has used, in seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def victim(dsn, log=subprocess.DEVNULL, files=None):
    running = Victim(dsn, log, files)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()


def test_a22_half_a_gigabyte_unsigned_takes_no_memory(dsn):
    megabyte = bytes(1024 * 1024)
    with victim(dsn) as receiver:
        assert receiver.deliver("before") == 200
        before = receiver.peak()

        for framing, piece in (
            (b"Content-Length: %d" % (512 * len(megabyte)), megabyte),
            (b"Transfer-Encoding: chunked", b"100000\r\n%s\r\n" % megabyte),
        ):
            with receiver.connect() as client:
                client.sendall(HEAD + framing + b"\r\n\r\n")
                with suppress(BrokenPipeError, ConnectionResetError):
                    for _ in range(512):
                        client.sendall(piece)
                assert client.recv(1000).startswith(b"HTTP/1.1 413 ")

        assert receiver.peak() - before < 8 * MIB
        assert receiver.deliver("after") == 200


def test_f52_within_256_files_300_idle_clients_keep_nobody_out(dsn):
    with victim(dsn, files=256) as receiver, ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(receiver.connect())

        assert [receiver.deliver(f"{n}") for n in range(10)] == [200] * 10


def test_f52_out_of_files_it_waits_and_neither_spins_nor_fills_the_log(dsn, tmp_path):
    with (tmp_path / "log").open("wb") as log, victim(dsn, log) as receiver:
        assert receiver.deliver("before") == 200
        open_now = len(list(Path(f"/proc/{receiver.process.pid}/fd").iterdir()))
        resource.prlimit(receiver.process.pid, resource.RLIMIT_NOFILE, (open_now + 20, open_now + 20))
        cpu = receiver.cpu()
        with ExitStack() as stack:
            began = time.monotonic()
            for _ in range(300):
                stack.enter_context(receiver.connect())
            assert [receiver.deliver(f"{n}") for n in range(5)] == [200] * 5
            spent, lasted = receiver.cpu() - cpu, time.monotonic() - began

        assert receiver.deliver("after") == 200
        assert spent < max(3.0, lasted / 2)
        assert len((tmp_path / "log").read_text().splitlines()) < 30


def timed(receiver, count, gap):
    """Deliver *count* events, one every *gap* seconds; return statuses and the seconds each took."""
    statuses, took = [], []
    for n in range(count):
        began = time.monotonic()
        statuses.append(receiver.deliver(f"valid-{n}"))
        took.append(time.monotonic() - began)
        threading.Event().wait(gap)
    return statuses, took


def report(name, took):
    cuts = statistics.quantiles(took, n=100, method="inclusive")
    sys.stdout.write(f"{name}: valid deliveries p50 {1000 * cuts[49]:.1f} ms, p99 {1000 * cuts[98]:.1f} ms\n")


@pytest.mark.fault
def test_f_12_500_slow_clients_delay_nobody(dsn):
    begun = [b"", HEAD, HEAD + b"Content-Length: 100\r\n\r\n", b"\x16", HEAD + b"Transfer-Encoding: chunked\r\n\r\n"]
    with victim(dsn) as receiver, ExitStack() as stack:
        slow = []
        for n in range(500):
            slow.append(stack.enter_context(receiver.connect()))
            slow[-1].sendall(begun[n % 5])
        stop = threading.Event()

        def trickle():
            while not stop.wait(0.5):
                for client in slow:
                    with suppress(OSError):
                        client.send(b"1")

        trickler = threading.Thread(target=trickle)
        trickler.start()
        try:
            statuses, took = timed(receiver, 150, 0.02)
        finally:
            stop.set()
            trickler.join()

    report("500 slow clients", took)
    assert statuses == [200] * 150
    assert statistics.median(took) < 0.5


FORGED = 1000  # a second
FLOOD = 10  # seconds


async def flood(port):
    """Send forged deliveries at FORGED a second, over 50 connections; return the statuses."""
    statuses: Counter[bytes] = Counter()
    request = HEAD + b"Content-Length: 2\r\n\r\n{}"

    async def forge(turn):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        began = time.monotonic() + turn / FORGED
        for n in range(FORGED * FLOOD // 50):
            await asyncio.sleep(began + n * 50 / FORGED - time.monotonic())
            writer.write(request)
            statuses[(await reader.readuntil(b"\r\n\r\n")).split()[1]] += 1
        writer.close()

    await asyncio.gather(*(forge(turn) for turn in range(50)))
    return statuses


@pytest.mark.fault
def test_j05_ten_thousand_forgeries_are_a_few_lines_and_no_row(fresh_dsn, tmp_path):
    with (tmp_path / "log").open("wb") as log, victim(fresh_dsn, log) as receiver, ThreadPoolExecutor() as pool:
        assert receiver.deliver("before") == 200
        memory, lines = receiver.peak(), len((tmp_path / "log").read_text().splitlines())
        flooding = pool.submit(asyncio.run, flood(receiver.port))
        statuses, took = timed(receiver, 100, 0.08)
        forged = flooding.result()
        memory = receiver.peak() - memory
    text = (tmp_path / "log").read_text().splitlines()[lines:]
    about_forgeries = [line for line in text if "delivery stored" not in line]

    report("forged flood", took)
    assert (statuses, forged) == ([200] * 100, {b"401": FORGED * FLOOD})
    assert (len(about_forgeries) <= 100, sum(map(len, about_forgeries)) < 64 * 1024) == (True, True)
    assert memory < 20 * MIB
    with psycopg.connect(fresh_dsn) as conn:
        assert conn.execute("SELECT count(*) FROM webhook_events").fetchone() == (101,)
    assert statistics.median(took) < 0.5
