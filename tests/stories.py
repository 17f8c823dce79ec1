"""Stories of our five systems, and the ways to tell them: a real receiver, real handlers, and what is in the end.

A story is what providers send, and what the application writes, in the order in which it happened. However it is told,
it ends as the same.
"""

import random
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from psycopg import Connection
from psycopg.rows import dict_row

from processor import registry
from tests import processes
from tests.conftest import empty
from tests.http_receiver import Receiver
from tests.inbox import process
from tests.signing import Signed

Row = dict[str, Any]
Final = dict[str, list[Row]]

# Ids and times of ours; and, of a log, what it says of the order in which it was written.
OURS = {
    "id", "number", "webhook_event_id", "retried_by", "created_at", "updated_at", "received_at", "recorded_at",
    "armed_at", "due_at", "from_state", "change",
}  # fmt: skip
RECENT = datetime(2025, 1, 1, tzinfo=UTC)  # the stories are older, so what is later is a time of receipt
AGES = Decimal(86400 * 30)  # seconds from a provider's time to one of ours: longer than any call
RELATIONS = """
    SELECT relname FROM pg_class
     WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')
       AND (relname NOT SIMILAR TO 'webhook%|dead_letters' OR relname = 'webhook_expectations')
"""
# How often a campaign is looked at depends on the order.
EVENTS = """
    SELECT app_id, provider, event_type, provider_type, subject, occurred_at, outcome, dead_at IS NOT NULL AS dead
      FROM webhook_events
     WHERE event_type <> 'campaign.call_ended'
"""
# Calls of which a state was told without a time: last_status_at is of our clock, then.
UNTIMED = "SELECT app_id, provider, call_id FROM call_events WHERE state IS NOT NULL AND occurred_at IS NULL"
OPEN = "SELECT count(*) FROM webhook_events WHERE processed_at IS NULL AND dead_at IS NULL"
SESSIONS = """
    SELECT count(*) FROM pg_stat_activity
     WHERE datname = current_database() AND application_name = 'inbox-processor'
"""


@dataclass(frozen=True)
class Story:
    """steps: a delivery, or SQL of the application, in order. before: SQL of the application, always first."""

    steps: list[Signed | str]
    before: str = ""

    @property
    def so_far(self) -> "Story":
        """Its first half."""
        return Story(self.steps[: len(self.steps) // 2], self.before)

    def __add__(self, other: "Story") -> "Story":
        return Story(self.steps + other.steps, self.before + other.before)


@dataclass(frozen=True)
class Stage:
    """Where a story is told."""

    dsn: str
    conn: Connection
    receiver: Receiver

    def set(self, story: Story) -> None:
        """Empty all tables, and write what the application has written."""
        empty(self.dsn)
        self.conn.execute(story.before.encode())

    def take(self, step: Signed | str) -> None:
        if isinstance(step, str):
            self.conn.execute(step.encode())
        else:
            assert step.to(self.receiver).status == 200, step

    def count(self, query: str) -> int:
        (number,) = self.conn.execute(query.encode()).fetchone() or (0,)
        return int(number)

    def finish(self) -> Final:
        """Handle all that is left, and return what is in the end."""
        process(self.conn)
        assert self.count(OPEN) == 0
        return final(self.conn)


def in_order(stage: Stage, story: Story) -> Final:
    """As it happened: each event is handled before the next one comes."""
    stage.set(story)
    for step in story.steps:
        stage.take(step)
        process(stage.conn)
    return stage.finish()


def doubled(stage: Stage, story: Story) -> Final:
    """Each step twice, and all of them once more when they are long handled."""
    stage.set(story)
    for step in story.steps:
        stage.take(step)
        stage.take(step)
    process(stage.conn)
    for step in random.Random(1).sample(story.steps, len(story.steps)):
        stage.take(step)
    return stage.finish()


def shuffled(seed: int) -> Callable[[Stage, Story], Final]:
    """In any order, and handled a few at a time: what is handled first is what came first."""

    def tell(stage: Stage, story: Story) -> Final:
        chance = random.Random(seed)
        stage.set(story)
        for step in chance.sample(story.steps, len(story.steps)):
            stage.take(step)
            if chance.random() < 0.3:
                process(stage.conn)
        return stage.finish()

    return tell


def backwards(stage: Stage, story: Story) -> Final:
    """The last first, and each event is handled before the one that happened before it comes."""
    stage.set(story)
    for step in reversed(story.steps):
        stage.take(step)
        process(stage.conn)
    return stage.finish()


def four_workers(stage: Stage, story: Story) -> Final:
    """Sent shuffled, doubled and by several at once, while the workers of a `processor run` handle it."""
    stage.set(story)
    order = random.Random(4).sample(story.steps * 2, 2 * len(story.steps))
    with processes.processor(stage.dsn, "--workers", "4", "--batch-size", "3", "--interval", "0.5"):
        processes.wait_for(lambda: stage.count(SESSIONS) >= 4)
        with ThreadPoolExecutor(4) as senders:
            list(senders.map(stage.take, order))
        processes.wait_for(lambda: stage.count(OPEN) == 0)
    return stage.finish()


def final(conn: Connection) -> Final:
    """Return the rows of all the systems' tables and views, and what became of each event, in one order.

    Without what is ours: ids, and times of receipt, also where they stand for a time that a provider didn't tell.
    """
    untimed = set(conn.execute(UNTIMED))
    names = [name for (name,) in conn.execute(RELATIONS)]
    cursor = conn.cursor(row_factory=dict_row)
    rows = {name: cursor.execute(f"SELECT * FROM {name}".encode()).fetchall() for name in names}
    rows["events"] = cursor.execute(EVENTS).fetchall()
    return {name: in_one_order(_told(row, untimed) for row in found) for name, found in rows.items()}


def union(*finals: Final) -> Final:
    """Return what several stories end as when they are told together."""
    return {name: in_one_order(row for one in finals for row in one[name]) for name in finals[0]}


def differences(one: Final, other: Final) -> Final:
    """Return the rows that only one of the two has, by table."""
    pairs = ((name, one[name], other[name]) for name in one)
    return {
        name: [row for row in left if row not in right] + [row for row in right if row not in left]
        for name, left, right in pairs
        if left != right
    }


def columns(rows: list[Row], *names: str) -> list[tuple[Any, ...]]:
    """Return these columns of the rows, the rows in their order."""
    return sorted(tuple(row[name] for name in names) for row in rows)


def in_one_order(rows: Any) -> list[Row]:
    return sorted(rows, key=repr)


@contextmanager
def shipped_handlers(monkeypatch: Any) -> Iterator[None]:
    """Have exactly the handlers of `processor run`, loaded afresh, whatever other tests have imported or registered."""
    monkeypatch.delenv("DIALOGUE_URL", raising=False)
    monkeypatch.delenv("IGNORE_UNKNOWN_CALLS", raising=False)
    others = registry.HANDLERS.copy()
    imported = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "handlers"}
    for name in imported:
        del sys.modules[name]
    registry.HANDLERS.clear()
    try:
        registry.load(["handlers"])
        yield
    finally:
        registry.HANDLERS[:] = others
        for name in [name for name in sys.modules if name.partition(".")[0] == "handlers"]:
            del sys.modules[name]  # else whoever loads them next finds them imported, and registers none
        sys.modules.update(imported)


def _told(row: Row, untimed: set[Any]) -> Row:
    known = {name: _masked(value) for name, value in row.items() if name not in OURS}
    if "provider" not in row or (row["app_id"], row["provider"], row.get("call_id")) in untimed:
        known.pop("last_status_at", None)  # the views that leave out the provider have it from calls
    if "completed_at" in known:  # when its calls had ended, as far as was known when the last of them had
        known["completed_at"] = row["completed_at"] is not None
    return known


def _masked(value: Any) -> Any:
    if isinstance(value, datetime):
        return "received" if value > RECENT else value.astimezone(UTC)
    return "since received" if isinstance(value, Decimal) and value > AGES else value
