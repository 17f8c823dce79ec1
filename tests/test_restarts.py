"""The end of a receiver, and its successor: no request fails between them."""

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from functools import partial

import psycopg
import pytest

from benchmarks.restarts import Sender, delivery, start, take_over
from benchmarks.server import answers
from receiver.http.listeners import Handover, Taken
from tests.processes import DEADLINE, SECRET, Command, agent_event, free_port, post, wait_for

LIVE = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
BODY, HEADERS = agent_event("1")


@contextmanager
def running(dsn, *options):
    """Run a receiver on a free port; yields it and the port."""
    port = free_port()
    command = Command(dsn, "receiver", "run", "--port", str(port), *options)
    try:
        wait_for(lambda: answers(port))
        yield command.process, port
    finally:
        command.process.kill()
        command.process.wait()


def kept(port):
    """Return a connection that was answered once."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    assert get(connection, "/livez").status == 200
    return connection


def get(connection, path):
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.body = answer.read()
    return answer


def refuses(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    return False


def test_after_sigterm_an_idle_connection_carries_one_more_request(dsn):
    with running(dsn, "--drain", "60") as (process, port):
        first, second = kept(port), kept(port)
        process.terminate()
        wait_for(lambda: refuses(port))

        ready = get(first, "/readyz")
        second.request("POST", "/webhooks/agent", BODY, HEADERS)
        stored = second.getresponse()

        assert (ready.status, json.loads(ready.body)) == (503, {"ready": False, "reasons": ["draining"]})
        assert (stored.status, stored.getheader("connection"), ready.getheader("connection")) == (200, "close", "close")
        assert process.wait(DEADLINE) == 0


def test_after_sigterm_a_request_under_way_is_answered(dsn):
    with running(dsn, "--drain", "0") as (process, port), socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(DEADLINE)
        request = delivery(1)
        client.sendall(request[:-10])
        assert post(port, *agent_event("another")) == 200  # so the one before has been accepted
        process.terminate()
        wait_for(lambda: refuses(port))

        client.sendall(request[-10:])

        assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
        assert process.wait(DEADLINE) == 0


def test_it_waits_no_longer_for_idle_connections_than_it_was_told(dsn):
    with running(dsn, "--drain", "0.1") as (process, port):
        connection = kept(port)
        process.terminate()

        assert process.wait(DEADLINE) == 0
        connection.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once_with_0(number, dsn):
    with running(dsn, "--drain", "3600") as (process, port):
        connection = kept(port)
        process.send_signal(number)
        wait_for(lambda: refuses(port))
        process.send_signal(number)

        assert process.wait(DEADLINE) == 0
        connection.close()


def test_a_successor_takes_the_port_over_and_the_one_before_it_ends(dsn, tmp_path):
    port, path = free_port(), tmp_path / "handover"
    before = start(dsn, port, path)
    connection = kept(port)
    after = start(dsn, port, path)
    try:
        last = get(connection, "/readyz")
        assert (last.status, last.getheader("connection")) == (503, "close")
        assert before.wait(DEADLINE) == 0
        assert answers(port)
        assert path.stat().st_mode & 0o777 == 0o600
    finally:
        for process in (before, after):
            process.terminate()
            process.wait()


def test_a_sigterm_after_the_handover_fails_no_request_under_way(dsn, tmp_path):
    port, path = free_port(), tmp_path / "handover"
    before = start(dsn, port, path)
    request = delivery(1)
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as client:
        client.sendall(request[:-10])
        assert post(port, *agent_event("another")) == 200  # so the one before has been accepted
        idle = kept(port)
        after = start(dsn, port, path)
        try:
            wait_for(lambda: get(idle, "/readyz").status == 503)  # it ends
            before.terminate()
            client.sendall(request[-10:])

            assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
            assert before.wait(DEADLINE) == 0
        finally:
            for process in (before, after):
                process.terminate()
                process.wait()


def test_one_that_died_hands_nothing_over_and_is_not_missed(dsn, tmp_path):
    port, path = free_port(), tmp_path / "handover"
    before = start(dsn, port, path)
    before.kill()
    before.wait()
    after = start(dsn, port, path)
    try:
        assert answers(port)
    finally:
        after.terminate()
        after.wait()


def test_a_successor_that_does_not_start_takes_nothing_away(dsn, tmp_path):
    port, path = free_port(), tmp_path / "handover"
    before = start(dsn, port, path)
    try:
        with socket.socket(socket.AF_UNIX) as successor:  # it asks for the sockets, and ends
            successor.connect(str(path))
            _, descriptors, _, _ = socket.recv_fds(successor, 1, 10)
        for descriptor in descriptors:
            os.close(descriptor)

        assert answers(port)
        assert before.poll() is None
    finally:
        before.terminate()
        before.wait()


def test_a_handover_that_nobody_answers_is_1_and_the_reason(dsn, tmp_path):
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(tmp_path / "handover"))
        hung.listen()
        done = subprocess.run(
            [sys.executable, "-m", "receiver", "run", "--port", "0", "--handover", str(tmp_path / "handover")],
            env={**os.environ, "DATABASE_URL": dsn, "WEBHOOK_SECRET": SECRET}, capture_output=True, text=True,
            check=False, timeout=DEADLINE,
        )  # fmt: skip

    assert done.returncode == 1
    assert "does not answer; is it hung?" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can play another user")
def test_sockets_of_another_user_are_not_taken(tmp_path):
    path = str(tmp_path / "handover")
    with socket.socket(socket.AF_UNIX) as squatter:
        squatter.bind(path)
        os.seteuid(65534)  # what the other side is told is who listened
        squatter.listen()
        os.seteuid(0)

        with pytest.raises(Taken, match="another user listens there"):
            Handover(path).take()


def test_f41_take_overs_under_traffic_fail_no_request(fresh_dsn, tmp_path):
    port = free_port()
    sender = Sender(port)

    asyncio.run(take_over(partial(start, fresh_dsn, port, tmp_path / "handover"), sender, 2, rate=50, every=0.5))

    # 503: not stored within 2.5 s, which a busy machine may see; what a client sees of a restart is an error.
    assert set(sender.outcomes) <= {"200", "503"}
    with psycopg.connect(fresh_dsn) as conn:
        assert conn.execute("SELECT count(*) >= %s FROM webhook_events", [sender.outcomes["200"]]).fetchone() == (True,)


AS_SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, "-m", "receiver", "run"])
"""


def activated(dsn, listener):
    """Start a receiver as systemd does: its socket is descriptor 3, and LISTEN_PID its own process id."""
    return subprocess.Popen(
        [sys.executable, "-c", AS_SYSTEMD, str(listener.fileno())], stderr=subprocess.DEVNULL,
        env={**os.environ, "DATABASE_URL": dsn, "WEBHOOK_SECRET": SECRET}, pass_fds=[listener.fileno()],
    )  # fmt: skip


def test_a_socket_of_systemd_outlives_the_receivers_that_serve_it(dsn):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        first = activated(dsn, listener)
        try:
            wait_for(lambda: answers(port))
        finally:
            first.terminate()
        assert first.wait(DEADLINE) == 0

        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as waiting:
            waiting.sendall(LIVE)
            second = activated(dsn, listener)
            try:
                assert waiting.recv(1000).startswith(b"HTTP/1.1 200 ")
            finally:
                second.terminate()
                second.wait()
