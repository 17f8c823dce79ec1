"""Another host, as the network sees it: a namespace of its own, with links that can go down.

A link that is down drops what is sent and tells nobody: no FIN, no RST, no refusal.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count

NUMBERS = count()
NET = (198 << 24) + (18 << 16)  # 198.18.0.0/15, kept for such tests by RFC 2544


class NoLinks(Exception):
    """Why there can be no such host here."""


@dataclass(frozen=True)
class Link:
    """A pair of interfaces; here: our address, there: the other host's."""

    name: str
    here: str
    there: str

    def down(self) -> None:
        """Cut it."""
        _ip("link", "set", self.name, "down")

    def up(self) -> None:
        """Mend it."""
        _ip("link", "set", self.name, "up")


@dataclass(frozen=True)
class Host:
    """Another host; its programs are started with *run* before their own words."""

    name: str

    @property
    def run(self) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self.name)

    def link(self) -> Link:
        """Lay one more link to it."""
        number = next(NUMBERS)
        first = NET + (os.getpid() * 16 + number * 4) % (1 << 17)
        link = Link(f"wi{os.getpid()}n{number}", _dotted(first + 1), _dotted(first + 2))
        _ip("link", "add", link.name, "type", "veth", "peer", "name", "far", "netns", self.name)
        _ip("-n", self.name, "link", "set", "far", "name", f"far{number}")
        _ip("address", "add", f"{link.here}/30", "dev", link.name)
        _ip("-n", self.name, "address", "add", f"{link.there}/30", "dev", f"far{number}")
        _ip("-n", self.name, "link", "set", f"far{number}", "up")
        link.up()
        return link


@contextmanager
def host() -> Iterator[Host]:
    """Make a host, and remove it with its links. Raises NoLinks with the reason."""
    if os.geteuid() != 0:
        raise NoLinks("only root may make a network namespace")
    name = f"webhook-inbox-{os.getpid()}-{next(NUMBERS)}"
    _ip("netns", "add", name)
    try:
        _ip("-n", name, "link", "set", "lo", "up")
        yield Host(name)
    finally:
        with suppress(NoLinks):
            _ip("netns", "delete", name)  # its interfaces go with it, and their peers with them


def _ip(*words: str) -> None:
    try:
        done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise NoLinks("no program `ip` here") from error
    if done.returncode:
        raise NoLinks(f"ip {' '.join(words)}: {done.stderr.strip()}")


def _dotted(address: int) -> str:
    return ".".join(str(address >> shift & 255) for shift in (24, 16, 8, 0))
