"""`receiver check conformance` passes our receiver, whatever source it plays, and fails one that is nobody's."""

import json
import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest
from click.testing import CliRunner

from receiver.check import check
from receiver.conformance import strain, wire
from receiver.conformance.items import in_order, run
from receiver.conformance.probes import probe_database
from receiver.conformance.trial import Trial
from receiver.conformance.unseen import UNSEEN as UNSEEN_ITEMS
from tests.http_receiver import rows, settings
from tests.processes import free_port
from tests.receiver_fixtures import BASE_URL, SECRETS, SOURCES, connection, db, receiver, start
from tests.signing import reminder

__all__ = ["connection", "db", "receiver", "start"]


@pytest.fixture
def play(receiver, session_database, tmp_path):
    """Function that returns the trial of a source of our receiver."""
    sources = {
        one.name: one for one in settings(tmp_path, session_database, SOURCES, BASE_URL=BASE_URL, **SECRETS).sources
    }
    to = "http://{}:{}".format(*receiver.address)
    others = [sources["agent"], sources["dialpad"]]
    probe = probe_database(session_database)
    return lambda name: Trial(sources[name], BASE_URL, to, others=others, probe=probe, sends=20)


def levels(found, level):
    return {one.name.partition(" ")[0]: one.got for one in found if one.level == level}


NO_TIME = {"C9", "C10", "C11"}
SLOW = {"C30", "C41", "C47", "C48"}
UNSEEN = {"C4", "C33", "C35", "C42", "C43", "C44", "C45", "C46"}


@pytest.mark.parametrize(
    ("source", "not_applicable"),
    [
        ("twilio", NO_TIME),
        ("twilio-voice", NO_TIME),
        ("vapi", NO_TIME | {"C6", "C7"}),
        ("dialpad", NO_TIME | {"C25", "C26"}),
        ("agent", NO_TIME),
        ("standard", set()),
    ],
)
def test_our_receiver_passes_as_every_source(source, not_applicable, play):
    found = list(run(play(source)))

    assert levels(found, "FAIL") == {}
    assert levels(found, "skip").keys() == not_applicable | SLOW | UNSEEN


def test_what_it_leaves_can_be_told(play, db):
    list(run(play("standard")))
    left = rows(db)

    assert len(left) < 150
    assert all("7e57" in row.event_id or "check-" in row.event_id or row.subject is None or "7357" in row.subject
               for row in left), {row.event_id for row in left}  # fmt: skip


def test_it_can_be_run_again_and_counts_its_own_events_only(play):
    for _ in range(2):
        assert levels(run(play("agent"), frozenset({"C2", "C36", "C38", "C39"})), "ok").keys() == {
            "C2",
            "C36",
            "C38",
            "C39",
        }


def test_a_body_that_never_ends_is_cut(play):
    assert levels(run(play("agent"), frozenset({"C41"}), slow=True), "ok").keys() == {"C41"}


def test_slow_senders_that_are_not_cut_in_time_are_told(play, monkeypatch):
    monkeypatch.setattr(strain, "SLOW_SENDERS", 20)
    monkeypatch.setattr(strain, "SLOW_SECONDS", 2.0)  # they have ten

    assert levels(run(play("agent"), frozenset({"C30"}), slow=True), "FAIL") == {"C30": "20 still open after 2 s"}


@pytest.fixture
def command(receiver, session_database, tmp_path):
    """Function that runs the command for the source agent of our receiver."""
    settings(tmp_path, session_database, SOURCES, BASE_URL=BASE_URL, **SECRETS)
    known = {"PATH": os.environ["PATH"], "WEBHOOK_SOURCES": str(tmp_path / "sources.toml"), **SECRETS}
    to = "{}:{}".format(*receiver.address)

    def run(*arguments, to=to, **environ):
        return subprocess.run(
            [sys.executable, "-m", "receiver", "check", "conformance", "--url", BASE_URL, "--to", to,
             "--source", "agent", *arguments],
            env=known | {"BASE_URL": BASE_URL} | environ,
            capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    return run


def test_the_command_prints_a_line_an_item_and_says_that_nothing_was_counted(command):
    done = command("--only", "c2,C9")

    assert done.returncode == 0, done.stdout + done.stderr
    first, second, _, last = done.stdout.splitlines()
    assert first.split(maxsplit=2)[:2] == ["ok", "C2"]
    assert first.endswith("  200 x2 (events not counted: no probe)")
    assert second.endswith("the provider signs no time")
    assert last.startswith("1 passed, 0 failed, 0 warnings, 1 skipped in ")


COUNT = """
import os, psycopg
query = "SELECT count(*) FROM webhook_events WHERE subject = 'reminder/' || %s"
print(psycopg.connect(os.environ["DSN"]).execute(query, [os.environ["SUBJECT"]]).fetchone()[0])
"""


def test_a_command_counts_by_the_subject_it_is_given(command, session_database, tmp_path):
    (tmp_path / "count.py").write_text(COUNT)

    done = command("--only", "C2", "--json", "--probe", f"{sys.executable} {tmp_path}/count.py", DSN=session_database)

    assert json.loads(done.stdout)["got"] == "200 x2, 1 event", done.stderr


def test_a_command_that_counts_nothing_is_told(command):
    done = command("--only", "C2", "--probe", "echo many")

    assert (done.returncode, "--probe: expected a command that prints a number" in done.stderr) == (1, True)


def test_with_another_secret_it_fails_and_exits_1(command):
    done = command("--only", "C2,C5", AGENT="another-secret")

    assert done.returncode == 1
    assert "FAIL  C2 the same again: expected 2xx, 1 event, got 401 x2" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--source", "nobody"], "no source 'nobody'; on are agent"),
        (["--source", "agent", "--only", "C5,C99"], "no item C99"),
        (["--source", "agent", "--probe", "x", "--probe-dsn", "y"], "exclude each other"),
        (["--source", "agent", "--to", "http://127.0.0.1/x"], "--to: expected"),
    ],
)
def test_what_can_not_be_tried_is_wrong_usage(arguments, told):
    environ = {"WEBHOOK_SECRET": SECRETS["AGENT"], "WEBHOOK_SOURCES": None}
    done = CliRunner().invoke(check, ["conformance", "--url", BASE_URL, *arguments], env=environ)

    assert done.exit_code == 2
    assert told in " ".join(done.stderr.split())


def test_where_nobody_answers_is_exit_69(command):
    assert command(to=f"127.0.0.1:{free_port()}").returncode == 69


@pytest.fixture
def elsewhere(play):
    """Function that returns the trial of what answers all requests with these bytes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(answer):
            with suppress(OSError):  # the listener's end
                while True:
                    connection, _ = listener.accept()
                    with connection, suppress(ConnectionError):
                        connection.recv(65536)
                        connection.sendall(answer)

        def trial(answer):
            Thread(target=serve, args=[answer], daemon=True).start()
            found = play("agent")
            found.to = "http://{}:{}".format(*listener.getsockname())
            return found

        yield trial
        listener.shutdown(socket.SHUT_RDWR)


ALL_ALIKE = frozenset({"C13", "C14", "C15", "C17"})


@pytest.mark.parametrize(
    ("answer", "failed"),
    [(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ALL_ALIKE - {"C17"}), (b"", ALL_ALIKE)],
    ids=["200", "nothing"],
)
def test_who_answers_all_alike_refuses_nothing_by_that(answer, failed, elsewhere):
    assert levels(run(elsewhere(answer), ALL_ALIKE), "FAIL").keys() == failed


def test_who_answers_that_it_is_too_much_has_refused_no_forgery(elsewhere):
    limited = elsewhere(b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")

    assert levels(run(limited, frozenset({"C5", "C6", "C7"})), "warn").keys() == {"C5", "C6", "C7"}


def test_the_list_is_whole():
    assert [one.number for one in in_order()] == [f"C{number}" for number in range(1, 49)]


def test_an_answer_that_is_no_http_is_one_that_did_not_come():
    left, right = socket.socketpair()
    with left, right:
        right.sendall(b"SSH-2.0-OpenSSH\r\n\r\n")
        right.shutdown(socket.SHUT_WR)

        assert str(wire.ask(left, b"POST / HTTP/1.1\r\n\r\n")) == "no answer (BadStatusLine)"


def test_two_chunks_and_a_trailer_are_framed_as_http_has_them():
    assert wire.chunked(b"abc", "X: y") == b"1\r\na\r\n2\r\nbc\r\n0\r\nX: y\r\n\r\n"


def test_the_first_delivery_after_a_run_is_stored_like_any_other(play, receiver):
    list(run(play("agent"), frozenset({"C19", "C23", "C24", "C29"})))

    assert reminder("the next").to(receiver).status == 200


def test_the_page_has_every_item_as_it_is():
    page = Path(__file__).parents[1] / "docs/conformance.md"
    reasons = {number: f"skipped: {why}" for number, _, _, why in UNSEEN_ITEMS}

    assert [line for line in page.read_text().splitlines() if line.startswith("| C")] == [
        f"| {one.number} | {one.title} | {one.expected} | {'slow' if one.slow else reasons.get(one.number, '')} |"
        for one in in_order()
    ]
