"""What a benchmark ran on: machine, system, PostgreSQL and its durability, versions; figures mean little without."""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psycopg

SETTINGS = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "wal_compression", "shared_buffers")
PACKAGES = ("psycopg", "starlette")


def conditions(dsn: str, packages: Sequence[str] = ()) -> dict[str, str]:
    """Return what is so here, by name. *packages*: whose versions count besides our own dependencies'."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        settings = conn.execute(
            "SELECT string_agg(name || ' ' || current_setting(name), ', ' ORDER BY place)"
            "  FROM unnest(%s::text[]) WITH ORDINALITY AS setting (name, place)",
            [list(SETTINGS)],
        ).fetchone()
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "cpu": f"{_cpu()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "postgresql": settings[0].removeprefix("server_version ") if settings else "",
        "packages": ", ".join(filter(None, map(_version, [*PACKAGES, *packages]))),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except FileNotFoundError:
        return platform.machine()
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return ""
