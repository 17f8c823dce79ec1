"""The receiver's commands as real processes, in the environments that platforms give them."""

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time

import psycopg
import pytest

from benchmarks.server import answers
from receiver.http.listeners import Taken, bound
from tests.processes import SECRET, Command, agent_event, free_port, post, receiver, wait_for


def command(*arguments, **environ):
    return subprocess.run(
        [sys.executable, "-m", "receiver", *arguments], env={**os.environ, "WEBHOOK_SECRET": SECRET, **environ},
        capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_of_a_hosts_addresses_one_that_the_machine_does_not_have_is_left_out(monkeypatch):
    both = [(family, 1, 6, "", (address, 0)) for family, address in [
        (socket.AF_INET6, "2001:db8::1"), (socket.AF_INET, "127.0.0.1")]]  # fmt: skip
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)

    (listener,) = bound("localhost", 0)

    with listener:
        assert listener.getsockname()[0] == "127.0.0.1"
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both[:1])
    with pytest.raises(Taken, match="cannot assign requested address"):
        bound("localhost", 0)


@pytest.mark.parametrize("environ", [{"WEB_CONCURRENCY": "2"}, {"HOST": "no.such.host.invalid"}])
def test_variables_that_platforms_set_for_others_do_not_keep_it_from_starting(dsn, monkeypatch, environ):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    port = free_port()

    with receiver(dsn, port):
        assert answers(port)


def test_a_port_that_is_taken_ends_it_with_1_and_the_reason(dsn):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = command("run", "--port", str(taken.getsockname()[1]), DATABASE_URL=dsn)

    assert done.returncode == 1
    assert "address already in use; stop who listens there, or give another port" in done.stderr


def test_under_uvicorn_nothing_of_a_url_is_logged(dsn):
    port = free_port()
    environ = {**os.environ, "DATABASE_URL": dsn, "WEBHOOK_SECRET": SECRET}
    uvicorn = [sys.executable, "-m", "uvicorn", "--factory", "receiver.app:from_env", "--port", str(port)]
    with subprocess.Popen(uvicorn, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            wait_for(lambda: answers(port))
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(
                    b"GET /webhooks/twilio?From=%2B15555550100 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
                )
                assert client.recv(100).startswith(b"HTTP/1.1 405")
        finally:
            process.terminate()
        output = process.communicate()[0]

    assert "5555550100" not in output


def test_faults_under_uvicorn_are_lines_and_no_traceback(dsn):
    done = subprocess.run(
        [sys.executable, "-m", "uvicorn", "--factory", "receiver.app:from_env"],
        env={**os.environ, "DATABASE_URL": dsn, "WEBHOOK_SECRET": " "}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode != 0
    assert "WEBHOOK_SECRET" in done.stderr
    assert "Traceback" not in done.stderr


def test_large_unsigned_forms_do_not_hold_up_others(dsn, monkeypatch):
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "0" * 32)
    monkeypatch.setenv("BASE_URL", "https://hooks.example.com")
    port, replies = free_port(), []
    body = b"&".join(b"%d=" % n for n in range(120_000))
    headers = {"content-type": "application/x-www-form-urlencoded", "x-twilio-signature": "A" * 28}
    with receiver(dsn, port):
        flood = [threading.Thread(target=lambda: replies.append(flooded(port, body, headers))) for _ in range(5)]
        for sender in flood:
            sender.start()
        slowest = 0.0
        while any(sender.is_alive() for sender in flood):
            began = time.monotonic()
            assert alive(port)
            slowest = max(slowest, time.monotonic() - began)

    assert replies == [401] * 5
    assert slowest < 1.5, "one after the other, in the event loop, they took more than two seconds"


def alive(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/livez")
    status = connection.getresponse().status
    connection.close()
    return status == 200


def flooded(port, body, headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/webhooks/twilio", body, headers)
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_header_that_looks_like_an_escape_is_kept_and_no_reason_to_refuse(fresh_dsn):
    port = free_port()
    body, headers = agent_event("1")
    with receiver(fresh_dsn, port):
        assert post(port, body, {**headers, "user-agent": "x\\u0000"}) == 200

    with psycopg.connect(fresh_dsn) as conn:
        assert conn.execute("SELECT headers ->> 'user-agent' FROM webhook_events").fetchone() == ("x\\u0000",)


def test_a_time_that_nothing_happened_at_is_no_time(fresh_dsn):
    port = free_port()
    with receiver(fresh_dsn, port):
        for n, time_ in enumerate(("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", 10**20)):
            assert post(port, *agent_event(f"{n}", occurred_at=time_)) == 200

    with psycopg.connect(fresh_dsn) as conn:
        assert conn.execute("SELECT occurred_at FROM webhook_events").fetchall() == [(None,)] * 3


def test_send_delivers_what_the_receiver_takes_and_a_forgery_it_refuses(fresh_dsn):
    port = free_port()
    with receiver(fresh_dsn, port):
        sent = command("send", "agent", "call.completed", "--to", f"localhost:{port}", "--repeat", "2", "--json")
        forged = command("send", "agent", "call.completed", "--to", f"http://127.0.0.1:{port}", "--forge")

    assert [json.loads(line)["status"] for line in sent.stdout.splitlines()] == [200, 200]
    assert (forged.returncode, forged.stdout[:3]) == (0, "401")
    with psycopg.connect(fresh_dsn) as conn:
        assert conn.execute("SELECT count(*) FROM webhook_events").fetchone() == (1,)
        assert conn.execute("SELECT count(*) FROM webhook_duplicates").fetchone() == (1,)


@pytest.mark.parametrize("to", ["http://[::1", "http://127.0.0.1:8000/path", "ftp://a", "http://a:99999"])
def test_send_to_no_address_is_wrong_usage(to):
    assert command("send", "agent", "call.completed", "--to", to).returncode == 2


def test_send_to_nobody_is_exit_69():
    done = command("send", "agent", "call.completed", "--to", f"http://127.0.0.1:{free_port()}")

    assert done.returncode == 69
    assert "receiver run" in done.stderr


def test_sources_prints_each_url_and_no_secret():
    done = command("sources", "--json", TWILIO_AUTH_TOKEN="0123456789abcdef" * 2, BASE_URL="https://hooks.example.com")

    found = [json.loads(line)["source"] for line in done.stdout.splitlines()]
    assert found == ["twilio", "twilio-voice", "twilio-reminder", "agent"]
    assert "https://hooks.example.com/api/v1/webhooks/incoming-call" in done.stdout
    assert SECRET not in done.stdout
    assert "0123456789abcdef" not in done.stdout


def test_without_any_source_it_does_not_start_and_says_what_to_set():
    done = command("run", WEBHOOK_SECRET="")

    assert done.returncode == 78
    assert "WEBHOOK_SECRET" in done.stderr
    assert "DATABASE_URL" in done.stderr


def test_it_stops_on_sigterm_with_0(dsn):
    port = free_port()
    running = Command(dsn, "receiver", "run", "--port", str(port))
    wait_for(lambda: answers(port))

    assert running.stop() == 0
