"""A process under test, as its users start it, on a loopback port, until its block is left."""

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from processor import postgres
from processor.children import ended_with_us

ROOT = Path(__file__).parents[1]
DEADLINE = 60.0  # seconds, until it answers
UVICORN = (
    "-m", "uvicorn", "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning",
    "--timeout-keep-alive", "75",  # as ours; its own 5 s end connections that an open loop seldom needs
)  # fmt: skip
NOT_INHERITED = ("WEBHOOK_SOURCES", "LOG_LEVEL", "QUARANTINE", "PORT")  # so that defaults are defaults


@contextmanager
def receiver(dsn: str, log: Path, environ: Mapping[str, str], *options: str) -> Iterator[tuple[int, int]]:
    """Yield port and pid of `receiver run`, with its defaults but for *environ* and *options*.

    Its log goes to the file *log*, its spool beside that.
    """
    port = postgres.free_port([0])
    environ = {"DATABASE_URL": dsn, "SPOOL_DIR": str(log.with_suffix(".spool")), **environ}
    with running(["-m", "receiver", "run", "--port", str(port), *options], environ, log) as process:
        wait_for(lambda: responds(port), process, log)
        yield port, process.pid


@contextmanager
def uvicorn(app: str, log: Path, environ: Mapping[str, str]) -> Iterator[tuple[int, int]]:
    """Yield port and pid of an app of benchmarks/peers on uvicorn at its fastest: uvloop, httptools, no access log."""
    port = postgres.free_port([0])
    with running([*UVICORN, "--port", str(port), f"benchmarks.peers.{app}:app"], environ, log) as process:
        wait_for(lambda: responds(port), process, log)
        yield port, process.pid


@contextmanager
def running(
    arguments: Sequence[str], environ: Mapping[str, str], log: Path, program: str = sys.executable
) -> Iterator[subprocess.Popen[bytes]]:
    """Run *program*, else Python, with its stderr appended to *log*; stop it by SIGTERM."""
    inherited = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    with log.open("ab") as stderr:
        process = subprocess.Popen(
            [program, *arguments], env={**inherited, **environ}, cwd=ROOT, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=stderr, **ended_with_us(signal.SIGKILL),
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def responds(port: int) -> bool:
    """Tell whether HTTP is spoken there, by one who is ready or has no word for it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status != 503
    except OSError:
        return False
    finally:
        connection.close()


def wait_for(true: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, deadline: float = DEADLINE) -> None:
    """Wait until *true()*. Raises SystemExit when the process has ended, or the deadline is over."""
    until = time.monotonic() + deadline
    while not true():
        if process.poll() is not None or time.monotonic() > until:
            last = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-10:])
            raise SystemExit(f"error: still not so after {deadline:g} s, or ended: {process.args!r}; its log:\n{last}")
        time.sleep(0.02)
