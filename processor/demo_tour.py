"""The demo's deliveries: has them sent, waits for what becomes of them, and tells it story by story.

They are sent by `receiver send --tour` in a process of its own: this room imports nothing of the receiver.
"""

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from itertools import groupby
from signal import SIGTERM
from statistics import median

import click
from psycopg import Connection

from processor import children, demo_stories, operations, output
from processor.demo_stories import Story
from processor.operations import Filter, Row

SECONDS = 60.0  # that all may take to be handled; the one that fails once waits 5 s
TWIML_SHOWN = 90  # characters


class Tour:
    """One run through the stories. *run*: 32 hex digits that its ids are made of."""

    def __init__(self, conn: Connection, run: str, stopping: threading.Event) -> None:
        self._conn, self._run, self._stopping = conn, run, stopping
        self._before = max(operations.find(conn, Filter(), newest=True, most=1), default=0)
        self._sent: list[Row] = []
        self._until = 0.0
        self._told: dict[int, str] = {}

    def send(self, environ: Mapping[str, str], url: str) -> None:
        """Write what an application would have written, send everything to the receiver at *url*, await the outcomes.

        What failed and is to be tried again is not waited for.
        """
        demo_stories.write(self._conn, self._run)
        command = [sys.executable, "-P", "-m", "receiver", "send", "--tour", "--id", self._run, "--json", "--to", url]
        tied = children.ended_with_us(SIGTERM)
        with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, **tied) as sending:
            assert sending.stdout is not None  # noqa: S101 - a pipe, see above
            for line in sending.stdout:
                self._sent.append(json.loads(line))
                if self._stopping.is_set():
                    sending.terminate()
        self._until = time.monotonic() + SECONDS
        while self._waits() and self._may_wait():
            pass

    def tell(self, number: int, story: Story) -> None:
        """Print a story: each delivery with its answer, and the rows that came of them; awaits what is tried again."""
        sent = [row for row in self._sent if row["story"] == story.name]
        click.echo(f"\n{number}. {story.title}")
        self._print_deliveries(sent)
        while any(event["state"] in ("waiting", "retrying") for event in self._events(sent)):
            if not self._may_wait():
                break
        self._print_outcomes(sent)
        subjects = {row["subject"] for row in sent if row["subject"]}
        for title, query in story.tables.items():
            _print_table(title, demo_stories.read(self._conn, query, self._run, subjects))
        if story.after:
            click.echo(f"\n  {story.after}")

    def figures(self) -> dict[str, int]:
        """Return what the deliveries came to."""
        events = self._events(self._sent)
        outcomes = Counter(event["outcome"] or event["state"] for event in events)
        return {
            "sent": len(self._sent),
            "refused": sum(row["status"] == 401 for row in self._sent),
            "duplicates": sum(row["note"].startswith("a duplicate") for row in self._sent),
            "stored": len(events),
            "handled": outcomes["handled"],
            "retried": sum(event["attempts"] > 1 for event in events),
            "no handler": outcomes["no_handler"],
            "dead": outcomes["dead"],
        }

    @property
    def talking(self) -> str:
        """The reminder whose call hasn't ended."""
        return f"talking{demo_stories.names(self._run, set())['run']}"

    def answer_ms(self) -> float:
        """Return how long the receiver took to answer: the median, in ms."""
        return median(row["ms"] for row in self._sent) if self._sent else 0.0

    def own(self) -> Counter[str]:
        """Return how many events of each type the inbox has made itself meanwhile, and handled."""
        handled = (event for event in self._found() if event["outcome"] == "handled")
        return Counter(event["event_type"] for event in handled if event["source"] == "inbox")

    def _found(self) -> list[Row]:
        return operations.describe(self._conn, operations.find(self._conn, Filter(after=self._before)))

    def _events(self, sent: list[Row]) -> list[Row]:
        """Return the events that were stored of these deliveries, the oldest first."""
        keys = {(row["source"], row["event_id"]) for row in sent}
        return [event for event in reversed(self._found()) if (event["source"], event["event_id"]) in keys]

    def _waits(self) -> bool:
        counts = operations.counts(self._conn)
        return counts.unprocessed > counts.retrying

    def _may_wait(self) -> bool:
        return not self._stopping.wait(0.1) and time.monotonic() < self._until

    def _print_deliveries(self, sent: list[Row]) -> None:
        width = max((len(row["note"]) for row in sent), default=0)
        for (source, note), rows in groupby(sent, lambda row: (row["source"], row["note"])):
            group = list(rows)
            statuses = " ".join(sorted({str(row["status"]) for row in group}))
            click.echo(f"  POST  {source:<12}  {note:<{width}}  {statuses}  {_types(group)}")
            self._print_outcomes(group)
        twiml = [row["answer"].partition("?>")[2] for row in sent if "<Connect>" in row["answer"]]
        if twiml:
            click.echo(f"        answered with {twiml[0][:TWIML_SHOWN]}…")

    def _print_outcomes(self, sent: list[Row]) -> None:
        """Print the events that ended otherwise than by being handled at once, each time that it is news."""
        for event in self._events(sent):
            result = event["outcome"] or event["state"]
            at_once = result == "handled" and event["attempts"] == 1
            if at_once or result == "waiting" or result == self._told.get(event["id"]):
                continue
            self._told[event["id"]] = result
            words = {
                "handled": f"handled at attempt {event['attempts']}",
                "retrying": f"failed ({event['last_error']}); to be tried again",
                "no_handler": "no handler is registered for it; kept, and replayable",
                "dead": f"dead letter ({event['last_error']})",
            }
            click.echo(f"        event {event['id']}: {words.get(result, result)}")


def _types(group: list[Row]) -> str:
    """Return the types of these deliveries, the kind where it changes: call.ringing, answered, message.sent."""
    words, kind = [], ""
    for row in group:
        before, (kind, _, rest) = kind, row["event_type"].partition(".")
        words.append(rest if rest and kind == before else row["event_type"])
    return ", ".join(words)


def _print_table(title: str, found: list[Row]) -> None:
    columns = list(found[0]) if found else []
    click.echo(f"\n  {title}:" if found else f"\n  {title}: no rows")
    for line in output.aligned(columns, [[output.text(row[column]) for column in columns] for row in found]):
        click.echo(f"    {line}".rstrip())
