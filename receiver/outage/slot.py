"""Where spools lie: a directory of slots, each a file for one receiver at a time, held by a lock that dies with it."""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from receiver.outage.spool import MAX_BYTES, MIN_BYTES

SLOTS = 64  # receivers of one directory at most
# What is there is gone after a reboot, or with the container.
FLEETING = {"tmpfs", "ramfs", "overlay"}


class Unusable(Exception):
    """No spool can be kept there. Says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a receiver keeps its spool, and how much of it.

    chosen: an operator said so, else it is our default; of_address: it is named after the database's address, and lies
    beside those of others.
    """

    directory: Path
    max_bytes: int
    chosen: bool
    of_address: bool = False


@dataclass(slots=True)
class Slot:
    """A file of the directory that is ours until we let go of it, or end."""

    path: Path
    lock: int

    @property
    def address(self) -> str:
        """Return which database's deliveries it was last taken for, "" where nobody said."""
        return os.pread(self.lock, 200, 0).decode(errors="replace")

    def free(self) -> None:
        """Let others take it."""
        os.close(self.lock)


def place(environ: Mapping[str, str], dsn: str) -> Place | None:
    """Return what SPOOL_DIR and SPOOL_MAX_BYTES say; None: off, or there is no place by default. Raises Unusable.

    The default is the state directory of systemd's unit, else one of the user's for each database, so that nobody
    brings another database's deliveries into his own.
    """
    chosen = environ.get("SPOOL_DIR", "").strip()
    given = environ.get("SPOOL_MAX_BYTES", "").strip() or str(MAX_BYTES)
    if chosen.lower() == "off":
        return None
    if not (given.isascii() and given.isdigit()) or int(given) < MIN_BYTES:
        raise Unusable(f"SPOOL_MAX_BYTES: expected a number of bytes from {MIN_BYTES}, got {given!r}")
    if chosen:
        if not Path(chosen).is_absolute():
            raise Unusable(f"SPOOL_DIR: expected an absolute path or off, got {chosen!r}")
        return Place(Path(chosen), int(given), chosen=True)
    if state := environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Place(Path(state) / "spool", int(given), chosen=False)
    home = Path(environ.get("XDG_STATE_HOME", ""))
    if not home.is_absolute():  # to be ignored, says its specification
        home = Path(environ.get("HOME", "")) / ".local/state"
    if not home.is_absolute():
        return None
    return Place(home / "webhook-inbox/spool" / address_of(dsn), int(given), chosen=False, of_address=True)


def take(directory: Path, address: str = "") -> Slot:
    """Return the first slot that nobody holds, and no other database's, in a directory for the owner alone.

    *address*: of the database, which the slot is marked with. Raises Unusable.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in range(SLOTS):
            if slot := _lock(directory / f"slot-{number}.db", address):
                _mark(slot, address)
                return slot
    except OSError as error:
        raise Unusable(
            f"SPOOL_DIR: {str(directory)!r} can't be used: {error.strerror}; "
            "make it a directory on a persistent disk that this user may write to, or set SPOOL_DIR=off"
        ) from error
    raise Unusable(f"SPOOL_DIR: {str(directory)!r} has {SLOTS} receivers already; give some another directory")


def abandoned(directory: Path, address: str = "") -> Iterator[Slot]:
    """Yield the slots with a file that nobody holds, and no other database's. Each is held then. Raises OSError."""
    for path in sorted(directory.glob("slot-*.db")):
        if slot := _lock(path, address):
            yield slot


def is_held(path: Path) -> bool:
    """Tell whether a receiver holds the slot of this file. Raises OSError."""
    if slot := _lock(path):
        slot.free()
    return slot is None


def fleeting(directory: Path) -> str | None:
    """Return the kind of file system where what is kept does not outlive the machine or container, else None."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return None
    real = directory.resolve()
    # A later mount hides an earlier one of the same place.
    _, kind = max(
        ((len(Path(where).parts), number), kind)
        for number, (where, kind) in enumerate(mounts)
        if real.is_relative_to(where)
    )
    return kind if kind in FLEETING else None


def is_of(path: Path, address: str) -> bool:
    """Tell whether the slot of this file was last taken for that database, or for none in particular."""
    with suppress(FileNotFoundError):
        return path.with_suffix(".lock").read_text(encoding="utf-8", errors="replace") in ("", address)
    return True


def _lock(path: Path, address: str = "") -> Slot | None:
    """Return the slot, None where somebody holds it, or it is another database's than that of *address*, if any."""
    lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except BlockingIOError:
        os.close(lock)
        return None
    except BaseException:
        os.close(lock)
        raise
    slot = Slot(path, lock)
    if address and slot.address not in ("", address):
        slot.free()
        return None
    return slot


def _mark(slot: Slot, address: str) -> None:
    with suppress(OSError):  # on a full disk it stays unmarked, which is how it was before
        if slot.address != address:
            os.ftruncate(slot.lock, 0)
            os.pwrite(slot.lock, address.encode(), 0)


def address_of(dsn: str) -> str:
    """Return a name for the database: readable, and different for another one; nothing of the password is in it."""
    parts = conninfo_to_dict(dsn)
    database = str(parts.get("dbname") or parts.get("user") or "database")
    where = ":".join([*(str(parts.get(name) or "") for name in ("host", "hostaddr", "port")), database])
    name = "".join(letter for letter in database if letter.isalnum())[:32]
    return f"{name}-{sha256(where.encode()).hexdigest()[:12]}"
