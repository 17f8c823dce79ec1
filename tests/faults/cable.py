"""A way to the database that can be cut, mended, and shaken."""

import socket
import struct
import threading
from contextlib import suppress
from random import Random
from typing import Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: a close sends RST


class Cable:
    """A TCP proxy. Cut, it takes everything, acknowledges it and passes nothing on, not even the end of a connection.

    What it took while it was cut stays lost after mend(), and so do the connections of that time: only new ones pass.
    resets: how likely each piece that it carries ends its connection by RST instead. swallowed: connections made while
    it was cut.
    """

    def __init__(self, dsn: str, seed: int = 1) -> None:
        server = conninfo_to_dict(dsn)
        self.server = (str(server["host"]), int(server["port"] or 5432))
        self.is_cut = threading.Event()
        self.resets = 0.0
        self.swallowed = 0
        self.chance = Random(seed)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = int(self.listener.getsockname()[1])
        self.dsn = make_conninfo(dsn, host="127.0.0.1", port=self.port)
        self.ends: list[socket.socket] = [self.listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self.is_cut.set()

    def mend(self) -> None:
        self.is_cut.clear()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            self.ends.append(near)
            if self.is_cut.is_set():
                self.swallowed += 1
                continue
            try:
                far = socket.create_connection(self.server)
            except OSError:
                near.close()
                continue
            self.ends.append(far)
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(1 << 16):
                if self.is_cut.is_set():
                    return
                if self.chance.random() < self.resets:
                    for end in (one, other):
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                        end.shutdown(socket.SHUT_RD)  # the other direction's thread lets go of it
                        end.close()
                    return
                other.sendall(data)
            if not self.is_cut.is_set():
                other.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for end in self.ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
