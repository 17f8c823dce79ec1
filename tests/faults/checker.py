"""Holds a history against the tables, once all is drained: what was promised, and what became of it."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import psycopg

from tests.faults.history import Line, read

# Without a constraint, so that a doubled effect shows.
TABLES = "CREATE TABLE IF NOT EXISTS effects (event bigint NOT NULL)"
ROWS = """
    SELECT source || '/' || event_id, encode(sha256(body), 'hex'),
           CASE WHEN dead_at IS NOT NULL THEN 'dead' ELSE coalesce(outcome, 'waiting') END, coalesce(done.effects, 0)
      FROM webhook_events
      LEFT JOIN (SELECT event, count(*) AS effects FROM effects GROUP BY event) AS done ON done.event = id
"""


@dataclass(frozen=True, slots=True)
class Row:
    """An event of the table. fate: handled, no_handler, skipped, dead or waiting."""

    key: str
    sha: str
    fate: str
    effects: int


@dataclass(frozen=True)
class Verdict:
    """The keys of which something is so; of one that passed the first five are empty.

    lost: acknowledged, and not there, or waiting, or handled without effect. unexpected: there, and never sent.
    doubled: there twice, or with more than one effect. changed: there with another body than any that was sent.
    orphaned: an effect without its event handled. recovered: there, though no attempt was acknowledged. given_up: not
    there, none acknowledged: what the provider has lost with its last attempt. dead: there as a dead letter.
    """

    lost: list[str]
    unexpected: list[str]
    doubled: list[str]
    changed: list[str]
    orphaned: list[str]
    recovered: list[str]
    given_up: list[str]
    dead: list[str]
    acked: list[str]

    @property
    def passed(self) -> bool:
        return not (self.lost or self.unexpected or self.doubled or self.changed or self.orphaned)

    def __str__(self) -> str:
        """Return a line with the numbers, and one of each fault with the first keys."""
        numbers = " ".join(f"{one.name}={len(getattr(self, one.name))}" for one in fields(self))
        faults = [f"{one.name}: {', '.join(getattr(self, one.name)[:5])}" for one in fields(self)[:5]
                  if getattr(self, one.name)]  # fmt: skip
        return "\n".join([numbers, *faults])


def check(history: Path, dsn: str) -> Verdict:
    """Return the verdict on a run whose events are drained; *dsn*: the database that was written to."""
    with psycopg.connect(dsn) as conn:
        return judge(read(history), [Row(*row) for row in conn.execute(ROWS)])


def judge(lines: Iterable[Line], rows: Iterable[Row]) -> Verdict:
    """Compare what was sent with what is there."""
    sent, acked = defaultdict[str, set[str]](set), set[str]()
    for line in lines:
        sent[line.key].add(line.sha)
        if line.what == "ok":
            acked.add(line.key)
    rows = list(rows)
    stored = {row.key: row for row in rows}
    copies = Counter(row.key for row in rows)
    settled = {row.key for row in rows if row.fate != "waiting" and (row.fate != "handled" or row.effects)}
    return Verdict(
        lost=sorted(acked - settled),
        unexpected=sorted(stored.keys() - sent.keys()),
        doubled=sorted({row.key for row in rows if row.effects > 1 or copies[row.key] > 1}),
        changed=sorted({row.key for row in rows if row.key in sent and row.sha not in sent[row.key]}),
        orphaned=sorted({row.key for row in rows if row.effects and row.fate != "handled"}),
        recovered=sorted(stored.keys() & (sent.keys() - acked)),
        given_up=sorted(sent.keys() - acked - stored.keys()),
        dead=sorted(row.key for row in rows if row.fate == "dead"),
        acked=sorted(acked),
    )
