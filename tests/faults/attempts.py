"""What tests/faults/handlers.py leaves of each attempt, and what waits in the database meanwhile."""

from dataclasses import dataclass
from pathlib import Path

HANDLERS = ("--handlers", "tests.faults.handlers")


@dataclass(frozen=True)
class Attempt:
    event: int
    pid: int
    attempt: int
    key: str


def attempts(trace: Path) -> list[Attempt]:
    """Return the attempts that began, oldest first; a line that is being written is none yet."""
    lines = trace.read_text().rpartition("\n")[0].splitlines()
    return [Attempt(int(event), int(pid), int(attempt), key) for event, pid, attempt, key in map(str.split, lines)]


def effects(conn) -> list[int]:
    return [event for (event,) in conn.execute("SELECT event FROM effects ORDER BY event")]


def waits_for_a_lock(conn) -> bool:
    """Tell whether a session of the processor does."""
    waiting = """
        SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'inbox-processor' AND wait_event_type = 'Lock'
    """
    return bool(conn.execute(waiting).fetchone() != (0,))
