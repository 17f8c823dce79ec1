"""What a receiver counts, and where Prometheus reads it: a port of its own, which no provider gets to see.

Format: prometheus.io/docs/instrumenting/exposition_formats, text, version 0.0.4.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress

log = logging.getLogger("receiver")

PREFIX = "webhook_inbox_"
HELP = {
    "requests_total": "Requests by source and outcome: stored, repeated, spooled, unavailable (503), or the status.",
    "spooled_total": "Events kept in the spool, because the database was away.",
    "drained_total": "Events brought from a spool to the database.",
    "spool_rejected_total": "Spooled events that the database refused, set aside in the spool.",
    "database_away": "1 while the last attempt at the database has failed.",
    "spool_deliveries": "Events that wait in the spool.",
    "spool_bytes": "Their size.",
    "spool_max_bytes": "What the spool's file may grow to.",
    "spool_oldest_age_seconds": "How long the oldest of them has waited.",
    "spool_rejected": "Events set aside in the spool, see `receiver spool show`.",
}
READ_SECONDS = 5.0
RETRY = 1.0  # seconds between two attempts to listen
HEAD_MAX = 16 * 1024
Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Counters since the process began; gauges are asked for when somebody reads."""

    def __init__(self) -> None:
        self.counters: Counter[tuple[str, Labels]] = Counter()

    def count(self, name: str, more: int = 1, **labels: str) -> None:
        """Add to a counter: a key of HELP."""
        self.counters[name, tuple(labels.items())] += more

    def text(self, gauges: Mapping[str, float]) -> str:
        """Return all of it as Prometheus reads it."""
        lines = []
        for name, words in HELP.items():
            counted = {labels: value for (one, labels), value in self.counters.items() if one == name}
            values: Mapping[Labels, float] = {(): gauges[name]} if name in gauges else counted
            kind = "counter" if name.endswith("_total") else "gauge"
            if values or (kind == "counter" and name != "requests_total"):
                lines += [f"# HELP {PREFIX}{name} {words}", f"# TYPE {PREFIX}{name} {kind}"]
                lines += [f"{PREFIX}{name}{_braces(labels)} {value}" for labels, value in (values or {(): 0}).items()]
        return "\n".join(lines) + "\n"


async def serve(host: str, port: int, read: Callable[[], str]) -> None:
    """Answer GET /metrics there with what *read* returns, until cancelled.

    A port that is taken is asked for again: the receiver before this one may still have it, and nobody's delivery is
    to wait for metrics.
    """
    told = False
    while True:
        try:
            server = await _listen(host, port, read)
        except OSError as error:
            if not told:
                log.warning("metrics not served port=%d cause=%s; trying on", port, error.strerror or error)
            told = True
            await asyncio.sleep(RETRY)
        else:
            async with server:
                await server.serve_forever()


async def _listen(host: str, port: int, read: Callable[[], str]) -> asyncio.Server:

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(READ_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                found = head.startswith((b"GET /metrics ", b"GET /metrics?"))
                body = read().encode() if found else b""
                status = b"200 OK" if found else b"404 Not Found"
                writer.write(
                    b"HTTP/1.1 " + status + b"\r\ncontent-type: text/plain; version=0.0.4\r\nconnection: close\r\n"
                    b"content-length: " + str(len(body)).encode() + b"\r\n\r\n" + body
                )
                await writer.drain()
        writer.close()

    # Shared with the receiver that hands its port over to this one, until it has ended.
    return await asyncio.start_server(answer, host, port, limit=HEAD_MAX, reuse_port=True)


def _braces(labels: Labels) -> str:
    """Return labels as they are written; ours are names of sources and words of our own, which need no escapes."""
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels) + "}" if labels else ""
