"""`receiver run --workers N`: several real processes behind one port, and the parent that keeps them."""

import asyncio
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from benchmarks.restarts import start
from benchmarks.server import answers
from receiver.app import create_app
from receiver.http.listeners import bound
from receiver.http.shared import ABSENT, SharedServer, Tally
from receiver.outage import view
from tests.http_receiver import settings, toml
from tests.outages import get
from tests.processes import DEADLINE, SECRET, Command, agent_event, free_port, post, wait_for
from tests.test_restarts import get as ask
from tests.test_restarts import kept, refuses

AGENT = {"name": "agent", "provider": "agent", "secrets": ["env:WEBHOOK_SECRET"]}
LIVE = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@contextmanager
def running(dsn, *options, workers=2, **environ):
    """Run a receiver of several workers on a free port; yields it and the port."""
    port = free_port()
    command = Command(dsn, "receiver", "run", "--port", str(port), "--workers", str(workers), *options, **environ)
    try:
        wait_for(lambda: answers(port))
        yield command.process, port
    finally:
        command.stop()


def children(pid):
    """Return the processes that it started and that have not ended."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {int(child) for child in listed if alive(int(child))}


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ports():
    """Return a port whose successor is free as well."""
    while True:
        first = free_port()
        with suppress(OSError), socket.create_server(("127.0.0.1", first + 1)):
            return first


def test_every_worker_takes_deliveries_and_has_metrics_of_its_own(dsn):
    metrics, numbers = ports(), count()
    with running(dsn, "--metrics-port", str(metrics)) as (_, port):

        def both_have_stored():
            assert post(port, *agent_event(f"{next(numbers)}")) == 200
            return all('outcome="stored"' in get(one, "/metrics") for one in (metrics, metrics + 1))

        wait_for(lambda: not refuses(metrics) and not refuses(metrics + 1))
        wait_for(both_have_stored)


def test_metrics_ports_past_the_last_are_wrong_usage():
    done = subprocess.run(
        [sys.executable, "-m", "receiver", "run", "--workers", "2", "--metrics-port", "65535"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 2
    assert "--metrics-port: expected room for 2 ports, got 65535" in done.stderr


async def shared(dsn, directory, number_of_connections, absent=()):
    """Connect one after the other to two servers on one socket; return how many connections each has then.

    absent: of those, which one does not accept, though it seems to have no connection.
    """
    (listener,) = bound("127.0.0.1", 0)
    tally = Tally(2)
    servers = [
        SharedServer(create_app(settings(directory, dsn, [AGENT], WEBHOOK_SECRET=SECRET)), [listener.dup()], tally, n)
        for n in range(2)
        if n not in absent
    ]
    started = [asyncio.Event() for _ in servers]
    tasks = [asyncio.create_task(server.serve(event.set)) for server, event in zip(servers, started, strict=True)]
    for event in started:
        await event.wait()
    for n in absent:
        tally.open[n] = 0
    streams = []
    for _ in range(number_of_connections):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(DEADLINE):
            await reader.readuntil(b"ok\n")
        streams.append(writer)
    open_ones = [len(server.open) for server in servers]
    for writer in streams:
        writer.close()
    for server in servers:
        server.stop(0)
    await asyncio.gather(*tasks)
    listener.close()
    assert [tally.open[n] for n in range(2) if n not in absent] == [ABSENT] * len(servers)
    return open_ones


def test_connections_that_are_kept_are_shared_out_evenly(dsn, tmp_path):
    first, second = asyncio.run(shared(dsn, tmp_path, 20))

    assert (first + second, abs(first - second) <= 2) == (20, True)


def test_nobody_waits_for_a_worker_that_does_not_accept(dsn, tmp_path):
    assert asyncio.run(shared(dsn, tmp_path, 5, absent=[1])) == [5]


def test_workers_that_are_killed_are_replaced_and_no_acknowledged_delivery_is_lost(fresh_dsn):
    acknowledged, stop = [], threading.Event()

    def send(port):
        for number in count():
            if stop.is_set():
                return
            with suppress(OSError, http.client.HTTPException):  # the worker that had it was killed
                if post(port, *agent_event(f"event-{number}")) == 200:
                    acknowledged.append(f"event-{number}")

    with running(fresh_dsn) as (process, port):
        sender = threading.Thread(target=send, args=[port])
        sender.start()
        try:
            for _ in range(3):
                before, sent = children(process.pid), len(acknowledged)
                os.kill(min(before), signal.SIGKILL)
                wait_for(lambda b=before: len(children(process.pid)) == 2 and children(process.pid) != b)
                wait_for(lambda s=sent: len(acknowledged) >= s + 10)
        finally:
            stop.set()
            sender.join()

    with psycopg.connect(fresh_dsn) as conn:
        keys = {key for (key,) in conn.execute("SELECT payload ->> 'event_id' FROM webhook_events")}
    assert set(acknowledged) <= keys


def test_while_no_worker_is_left_connections_wait_for_the_next(dsn):
    with running(dsn) as (process, port):
        for child in children(process.pid):
            os.kill(child, signal.SIGKILL)

        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as client:
            client.sendall(LIVE)
            assert client.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_on_sigterm_every_worker_finishes(dsn):
    with running(dsn, "--drain", "60") as (process, port):
        connections = [kept(port) for _ in range(8)]
        workers = children(process.pid)
        process.terminate()
        wait_for(lambda: refuses(port))

        last = [ask(connection, "/readyz") for connection in connections]

        assert {(one.status, one.getheader("connection")) for one in last} == {(503, "close")}
        assert process.wait(DEADLINE) == 0
        assert not any(map(alive, workers))


def test_a_second_signal_ends_all_at_once_with_0(dsn):
    with running(dsn, "--drain", "3600") as (process, port):
        connection, workers = kept(port), children(process.pid)
        process.terminate()
        wait_for(lambda: refuses(port))
        process.send_signal(signal.SIGINT)

        assert process.wait(DEADLINE) == 0
        wait_for(lambda: not any(map(alive, workers)))
        connection.close()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells a child of its parent's death")
def test_a_parent_that_is_killed_leaves_nobody_behind(dsn, tmp_path):
    with running(dsn, "--handover", str(tmp_path / "handover")) as (process, port):
        wait_for(lambda: len(children(process.pid)) == 3)
        left = children(process.pid)
        process.kill()
        process.wait()

        wait_for(lambda: not any(map(alive, left)))
        assert refuses(port)


def test_a_successor_takes_over_from_all_workers_and_they_end(dsn, tmp_path):
    path = tmp_path / "handover"
    with running(dsn, "--handover", str(path)) as (before, port):
        wait_for(path.exists)
        connections = [kept(port) for _ in range(8)]
        after = start(dsn, port, path)  # alone, as it may have been before
        try:
            assert {ask(connection, "/readyz").status for connection in connections} <= {200, 503}
            for connection in connections:
                connection.close()
            assert before.wait(DEADLINE) == 0
            assert answers(port)
        finally:
            after.terminate()
            after.wait()


def test_workers_take_over_from_one_receiver(dsn, tmp_path):
    path = tmp_path / "handover"
    port = free_port()
    before = start(dsn, port, path)
    command = Command(dsn, "receiver", "run", "--port", str(port), "--workers", "2", "--handover", str(path))
    try:
        assert before.wait(DEADLINE) == 0
        assert answers(port)
    finally:
        command.stop()
        before.kill()
        before.wait()


def test_a_successor_whose_workers_can_not_start_takes_nothing_away(dsn, tmp_path):
    path = tmp_path / "handover"
    (tmp_path / "file").touch()
    with running(dsn, "--handover", str(path)) as (_, port):
        wait_for(path.exists)
        offered = path.stat().st_ino

        failed = Command(
            dsn, "receiver", "run", "--port", str(port), "--workers", "2", "--handover", str(path),
            SPOOL_DIR=str(tmp_path / "file"),
        )  # fmt: skip

        assert failed.process.wait(DEADLINE) == 78
        assert answers(port)
        assert path.stat().st_ino == offered


def test_without_a_database_every_worker_spools_into_a_slot_of_its_own(dsn, tmp_path):
    away = make_conninfo(dsn, host="127.0.0.1", port=free_port())
    numbers = count()
    with running(away, SPOOL_DIR=str(tmp_path)) as (_, port):

        def waiting():
            return [view.state(path)["deliveries"] for path in view.files(tmp_path)]

        def both_have_some():
            assert post(port, *agent_event(f"{next(numbers)}")) == 200
            return all(waiting())

        assert len(view.files(tmp_path)) == 2
        wait_for(both_have_some)

        assert sum(waiting()) == next(numbers)


def test_sighup_reaches_every_worker_and_those_that_come_after(dsn, tmp_path):
    sources, key = tmp_path / "sources.toml", tmp_path / "key"

    def write(path):
        table = {"name": "agent", "provider": "agent", "secrets": [f"file:{path}"]}
        sources.write_text("[[source]]\n" + "".join(f"{name} = {toml(value)}\n" for name, value in table.items()))

    def taken(port):
        return {post(port, *agent_event("1")) for _ in range(8)}

    key.write_text("another-secret-of-the-voice-agent-01234")
    write(key)
    with running(dsn, WEBHOOK_SOURCES=str(sources)) as (process, port):
        assert taken(port) == {401}

        key.write_text(SECRET)
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: taken(port) == {200})

        write(tmp_path / "no such file")  # refused by all, and not read by those that come
        process.send_signal(signal.SIGHUP)
        before = children(process.pid)
        for child in before:
            os.kill(child, signal.SIGKILL)
        wait_for(lambda: len(children(process.pid)) == 2 and not children(process.pid) & before)
        assert taken(port) == {200}
