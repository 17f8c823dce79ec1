"""Our commands as an operator runs them: real processes, exit codes, data on stdout and words on stderr."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

Run = Callable[..., subprocess.CompletedProcess[str]]


def runner(dsn: str, module: str = "processor") -> Run:
    """Return a function that runs ``processor`` with arguments, and variables as keywords, to its end."""

    def run(*arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", module, *map(str, arguments)],
            env={**os.environ, "DATABASE_URL": dsn, **environ},
            capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    return run


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """Return the JSON Lines that a command printed."""
    return [json.loads(line) for line in done.stdout.splitlines()]
