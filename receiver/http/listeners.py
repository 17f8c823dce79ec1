"""The sockets a receiver listens on: bound by itself, given by systemd, or handed over by the receiver before it.

A connection waits in the socket, not in the process, so as long as some process has the socket open, and one comes to
accept, nobody is refused. With SO_REUSEPORT each process has a queue of its own, which the kernel resets at its end.
"""

import asyncio
import errno
import logging
import os
import socket
import struct
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from pathlib import Path

log = logging.getLogger("receiver")

BACKLOG = 2048
FIRST = 3  # systemd's file descriptors count from here: sd_listen_fds(3)
MOST = 16  # sockets that are handed over
PEER_SECONDS = 5.0  # for the receiver before us to answer
ABSENT = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: unix(7), SO_PEERCRED


class Taken(Exception):
    """The address is not to be had. The message says why."""


def bound(host: str, port: int) -> list[socket.socket]:
    """Return a listening socket for each address of *host*; port 0 takes a free one. Raises Taken.

    One of several addresses that this machine doesn't have is left out: localhost may be ::1, too, where IPv6 is off.
    """
    listeners: list[socket.socket] = []
    absent = None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
            try:
                listener = socket.create_server((address[0], port), family=family, backlog=BACKLOG)
            except OSError as error:
                if error.errno not in ABSENT:
                    raise
                absent = error
                continue
            port = listener.getsockname()[1]
            listeners.append(listener)
        if absent and not listeners:
            raise absent
    except socket.gaierror as error:
        raise Taken(f"{host}:{port}: {str(error.strerror).lower()}") from error
    except OSError as error:
        words = os.strerror(error.errno) if error.errno else str(error)
        todo = "; stop who listens there, or give another port" if error.errno == errno.EADDRINUSE else ""
        raise Taken(f"{host}:{port}: {words.lower()}{todo}") from error
    return listeners


def activated(environ: MutableMapping[str, str]) -> list[socket.socket]:
    """Return the sockets that systemd passes to this process, none where it passes none."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = int(environ.pop("LISTEN_FDS", "0"))
    return [socket.socket(fileno=descriptor) for descriptor in range(FIRST, FIRST + count)]


class Handover:
    """A Unix socket at *path*, where a receiver hands its listening sockets to the next one of the same user."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.before: socket.socket | None = None

    def take(self) -> list[socket.socket]:
        """Return the sockets of the receiver that runs, none where none does. Raises Taken."""
        before = socket.socket(socket.AF_UNIX)
        before.settimeout(PEER_SECONDS)
        try:
            before.connect(self.path)
        except (FileNotFoundError, ConnectionRefusedError):
            before.close()
            return []
        except OSError as error:
            before.close()
            raise Taken(f"handover {self.path!r}: {(error.strerror or str(error)).lower()}") from error
        if not _trusted(before):
            before.close()
            raise Taken(f"handover {self.path!r}: another user listens there; use a directory of this user's own")
        try:
            _, descriptors, _, _ = socket.recv_fds(before, 1, MOST)
        except OSError as error:
            before.close()
            raise Taken(f"handover {self.path!r}: the receiver there does not answer; is it hung?") from error
        self.before = before
        return [socket.socket(fileno=descriptor) for descriptor in descriptors]

    def taken(self) -> None:
        """Tell the receiver before us that we accept: it ends."""
        if self.before is not None:
            with suppress(OSError):
                self.before.sendall(b"1")
            self.before.close()

    async def offer(self, listeners: list[socket.socket], stop: Callable[[], None]) -> None:
        """Hand our sockets to each that asks, until one says that it accepts; then call *stop*."""
        with socket.socket(socket.AF_UNIX) as offer:
            try:
                self._listen(offer)
            except OSError as error:
                log.error("handover not offered cause=%s", error.strerror)
                return
            while True:
                asking, _ = await asyncio.get_running_loop().sock_accept(offer)
                with asking:
                    if await self._hand_over(asking, listeners):
                        break
        log.info("handed over to the next receiver")
        stop()

    def _listen(self, offer: socket.socket) -> None:
        """Listen at *path*, in place of the receiver before us, or of one that is dead."""
        ours = f"{self.path}.{os.getpid()}"
        offer.bind(ours)
        Path(ours).chmod(0o600)
        offer.listen()
        offer.setblocking(False)
        Path(ours).replace(self.path)

    async def _hand_over(self, asking: socket.socket, listeners: list[socket.socket]) -> bool:
        """Send the sockets; tell whether the other accepts on them. It may need a while to start."""
        ended = any(listener.fileno() < 0 for listener in listeners)
        if ended or not _trusted(asking):
            return False
        try:
            socket.send_fds(asking, [b"0"], [listener.fileno() for listener in listeners])
            return await asyncio.get_running_loop().sock_recv(asking, 1) == b"1"
        except OSError:
            return False


def _trusted(peer: socket.socket) -> bool:
    """Tell whether the process at the other end of a Unix socket is this user's, or root's."""
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    return CREDENTIALS.unpack(credentials)[1] in {os.getuid(), 0}
