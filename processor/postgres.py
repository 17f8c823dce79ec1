"""A private PostgreSQL for ``processor demo`` and the tests; it knows nothing of events.

Beside a data directory ``demo`` lie ``demo.lock`` (held while its server runs), ``demo.dsn`` (0600: the
password and the last port), ``demo.log`` (of the last start) and, while it is being made, ``demo.new``.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict

from processor import postgres_binaries as binaries
from processor.postgres_binaries import Unavailable, account, as_child, run

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    import pwd

__all__ = ["Server", "Unavailable", "default_data_dir", "free_port", "start", "wipe"]

MAJOR = "18"
INITDB = ("--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--data-checksums")
SETTINGS = (
    "--listen_addresses=127.0.0.1",
    "--unix_socket_directories=",
    "--fsync=on",
    "--max_connections=100",
    "--log_min_messages=warning",
    "--log_checkpoints=off",
)


class Server:
    """A running PostgreSQL, until it is stopped, its block is left or, on Linux, this process dies."""

    def __init__(self, process: subprocess.Popen[bytes], dsn: str, psql: Path, lock: IO[str]) -> None:
        self.dsn = dsn
        self.psql = psql
        self.pid = process.pid
        self._process = process
        self._lock = lock

    def stop(self, timeout: float = 20.0) -> None:
        """Roll back what is open and shut down; after *timeout* seconds, abort (the next start recovers).

        May be called again. The data directory is then free for another supervisor.
        """
        _stop(self._process, timeout)
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def default_data_dir() -> Path:
    """Return where the demo keeps its data: not in root's home, which PostgreSQL's user cannot enter."""
    if os.geteuid() == 0:
        return Path("/var/lib/webhook-inbox/demo")
    data_home = Path(os.environ.get("XDG_DATA_HOME", ""))
    if not data_home.is_absolute():  # to be ignored, says its specification
        data_home = Path.home() / ".local/share"
    return data_home / "webhook-inbox/demo"


def start(data_dir: Path, *, port: int | None = None, settings: Sequence[str] = ()) -> Server:
    """Start PostgreSQL on *data_dir*, made on first use, and return once it answers.

    Without *port* the last one is taken again if it is free, so that the DSN lasts. *settings*: more options of
    postgres, which win over ours. Raises Unavailable, and then leaves no process behind. Call it from a thread that
    outlives the server, best the main one: Linux takes the end of the thread that started a process for its parent's
    death.
    """
    package = binaries.package()
    data_dir = data_dir.resolve()
    try:
        _make_parents(data_dir.parent)
        lock = _lock(data_dir)
        try:
            programs = binaries.executables(package, data_dir.parent)
            _recover(data_dir)
            dsn = _prepare(data_dir, programs, port)
            return Server(_launch(data_dir, programs, dsn, settings), dsn, programs / "psql", lock)
        except BaseException:
            lock.close()
            raise
    except OSError as error:
        raise Unavailable(f"{data_dir}: PostgreSQL cannot be started here: {error}; or set DATABASE_URL") from error


def wipe(data_dir: Path) -> None:
    """Remove the data, its password and its log. Raises Unavailable while a supervisor runs there."""
    data_dir = data_dir.resolve()
    if not data_dir.parent.exists():
        return
    with _lock(data_dir):
        if _version(data_dir):
            _recover(data_dir)
            shutil.rmtree(data_dir)
        for suffix in ("dsn", "log"):
            _beside(data_dir, suffix).unlink(missing_ok=True)


def _beside(data_dir: Path, suffix: str) -> Path:
    return data_dir.with_name(f"{data_dir.name}.{suffix}")


def _make_parents(directory: Path) -> None:
    """Create what is missing of *directory*, change no other, and see that PostgreSQL's user gets through."""
    user = account()
    for parent in reversed([directory, *directory.parents]):
        if not parent.exists():
            parent.mkdir(exist_ok=True)
            parent.chmod(0o755 if user else 0o700)
        if user and not _opens(parent.stat(), user):
            raise Unavailable(
                f"{parent}: closed to user {user.pw_name!r}, whom PostgreSQL runs as when we are root; "
                "choose a data directory outside it, such as /var/lib/webhook-inbox/demo, or set DATABASE_URL"
            )


def _opens(directory: os.stat_result, user: "pwd.struct_passwd") -> bool:
    owner, group = directory.st_uid == user.pw_uid, directory.st_gid == user.pw_gid
    return bool(directory.st_mode & (0o100 if owner else 0o010 if group else 0o001))


def _lock(data_dir: Path) -> IO[str]:
    """Own *data_dir* until the returned file is closed or we die. It stays: removing it would race."""
    file = _beside(data_dir, "lock").open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise Unavailable(f"{data_dir}: PostgreSQL is already running here; stop the other demo first") from error
    return file


def _recover(data_dir: Path) -> None:
    """Stop a server that outlived its supervisor, and let a stale postmaster.pid be seen as one."""
    pid_file = data_dir / "postmaster.pid"
    if not pid_file.exists():
        return
    first, *rest = pid_file.read_text().splitlines() or ["0"]
    pid, deadline = int(first), time.monotonic() + 20
    if _serves(pid, data_dir):
        os.kill(pid, signal.SIGINT)
    while _serves(pid, data_dir):
        if time.monotonic() > deadline:
            raise Unavailable(f"{data_dir}: an earlier PostgreSQL does not stop; end process {pid}")
        time.sleep(0.02)
    if pid_file.exists():
        # The pid may be another program's by now. PostgreSQL takes a file that names its own parent for stale;
        # were it removed, PostgreSQL could not tell that backends have survived their server.
        pid_file.write_text("\n".join([str(os.getpid()), *rest, ""]))


def _serves(pid: int, data_dir: Path) -> bool:
    """Tell whether *pid* is a live postgres of *data_dir*; a zombie has no arguments and is none."""
    if sys.platform == "linux":
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
        except (FileNotFoundError, ProcessLookupError):
            return False
    else:
        listing = ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)]
        command = subprocess.run(listing, capture_output=True, check=False).stdout
    return b"/postgres -D %s -p " % os.fsencode(data_dir) in command


def _version(data_dir: Path) -> str | None:
    """Return the data's major version, None if there is none. Raises Unavailable if it is other data."""
    if not data_dir.exists() or not any(data_dir.iterdir()):
        return None
    if not (data_dir / "PG_VERSION").exists():
        raise Unavailable(f"{data_dir}: not a PostgreSQL data directory, nor empty; choose another")
    return (data_dir / "PG_VERSION").read_text().strip()


def _prepare(data_dir: Path, programs: Path, port: int | None) -> str:
    """Make the data directory unless it is there, and return its DSN."""
    version = _version(data_dir)
    kept = _beside(data_dir, "dsn")
    if version not in (None, MAJOR) or (version and not kept.exists()):
        raise Unavailable(f"{data_dir}: of PostgreSQL {version} not {MAJOR}, or {kept} is gone; start afresh")
    last = conninfo_to_dict(kept.read_text()) if kept.exists() else {}
    password = str(last["password"]) if version else secrets.token_hex(16)
    chosen = free_port([port] if port else [int(last.get("port") or 0), 0])
    dsn = f"postgresql://postgres:{password}@127.0.0.1:{chosen}/postgres?sslmode=disable"
    new = _beside(data_dir, "dsn.new")
    _write_private(new, dsn)
    new.replace(kept)  # before there is data, so that being killed here leaves none without its password
    if not version:
        _initialise(data_dir, programs, password)
    return dsn


def free_port(candidates: Sequence[int]) -> int:
    """Return the first of *candidates* that nobody listens on; 0 stands for any."""
    for candidate in candidates:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as PostgreSQL does
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise Unavailable(f"port {candidates[0]}: in use; choose another")


def _initialise(data_dir: Path, programs: Path, password: str) -> None:
    """Run initdb beside *data_dir* and rename: a first run that is killed leaves nothing half-made."""
    new = _beside(data_dir, "new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(0o700)
    try:
        pwfile = new / "password"
        _write_private(pwfile, password)
        if user := account():
            os.chown(pwfile, user.pw_uid, user.pw_gid)
            os.chown(new, user.pw_uid, user.pw_gid)
        run(programs / "initdb", "-D", new / "data", "--pwfile", pwfile, *INITDB)
        (new / "data").rename(data_dir)
    finally:
        shutil.rmtree(new)


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.touch(0o600, exist_ok=False)
    path.write_text(text)


def _launch(data_dir: Path, programs: Path, dsn: str, settings: Sequence[str]) -> subprocess.Popen[bytes]:
    """Run postgres as our child until it answers, for at most 30 seconds."""
    port = str(conninfo_to_dict(dsn)["port"])
    log = _beside(data_dir, "log")
    _write_private(log, "")
    with log.open("ab") as file:
        process = subprocess.Popen(
            [programs / "postgres", "-D", data_dir, "-p", port, *SETTINGS, *settings], stderr=file, **as_child()
        )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(dsn, connect_timeout=1).close()
            except psycopg.OperationalError as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    lines = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
                    raise Unavailable(f"{data_dir}: PostgreSQL did not start; its log:\n{lines}") from error
                time.sleep(0.02)
            else:
                return process
    except BaseException:
        _stop(process, 5.0)
        raise


def _stop(process: subprocess.Popen[bytes], timeout: float) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait()  # its own children have five seconds, says PostgreSQL
