"""Rows for a spool, and the files of one that is taken from under its process."""

import shutil
from pathlib import Path
from typing import Any

from receiver.delivery import Delivery
from receiver.outage.spool import Spool
from receiver.providers import agent
from receiver.row import row_of
from receiver.settings import sources_from
from tests.processes import SECRET, agent_event


def row(event_id: str, **fields: Any) -> dict[str, Any]:
    """Return the row of one event of the voice agent's, as the receiver makes it."""
    body, headers = agent_event(event_id, **fields)
    (source,) = sources_from({"WEBHOOK_SECRET": SECRET})
    delivery = Delivery("POST", "", "/webhooks/agent", headers, body)
    (event,) = agent.identify(delivery, source.options)
    return {name: value for name, value in row_of(source, delivery, event).items() if name != "age"}


def fill(spool: Spool, *event_ids: str, arrived_at: float = 1_700_000_000.0, tried: bool = False) -> None:
    spool.append([(arrived_at, row(event_id), tried) for event_id in event_ids])


def ids(spool: Spool, most: int = 1000) -> list[str]:
    """Return the ids of the events that wait."""
    return [str(record.row["event_id"]) for record in spool.peek(most)]


def taken(path: Path, directory: Path) -> Path:
    """Copy what a process that was killed would leave on the disk; return the copy's path."""
    directory.mkdir()
    for name in (path.name, f"{path.name}-wal"):
        if (path.parent / name).exists():
            shutil.copy(path.parent / name, directory)
    return directory / path.name
