"""A machine that vanishes in the middle of an event: nobody tells the database, and still its events come free."""

import socket
import threading
from contextlib import suppress

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.faults.attempts import HANDLERS, attempts, effects
from tests.inbox import add, look
from tests.processes import processor, wait_for


class Cable:
    """A way to the database that can be cut: then nothing passes any more, not even the end of a connection."""

    def __init__(self, host: str, port: int) -> None:
        self.server = (host, port)
        self.is_cut = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        self.ends: list[socket.socket] = [self.listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                far = socket.create_connection(self.server)
                self.ends += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(1 << 16):
                if self.is_cut.is_set():
                    return
                other.sendall(data)
            if not self.is_cut.is_set():
                other.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for end in self.ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@pytest.fixture
def cable(fresh_dsn):
    server = conninfo_to_dict(fresh_dsn)
    cable = Cable(str(server["host"]), int(server["port"] or 5432))
    yield cable
    cable.close()


def test_the_event_of_a_machine_that_vanished_is_taken_up_after_its_timeout_at_the_latest(
    conn, fresh_dsn, trace, cable
):
    event = add(conn, "fault.sleep_once")
    options = ("--interval", "0.1", "--handler-timeout", "2", *HANDLERS)
    far_away = make_conninfo(fresh_dsn, host="127.0.0.1", port=cable.port)

    with processor(far_away, *options):
        wait_for(lambda: attempts(trace))
        cable.is_cut.set()
        with processor(fresh_dsn, *options):
            wait_for(lambda: look(conn, event, "outcome") == ("handled",))

    assert effects(conn) == [event]
