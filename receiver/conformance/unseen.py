"""The items that HTTP alone can neither see nor bring about: skipped, each with what to do instead."""

from collections.abc import Callable

from receiver.conformance.items import Skipped, item
from receiver.conformance.trial import Trial

UNSEEN = (
    ("C4", "a restart, and the same again", "2xx, 1 event", "restart it between two runs of your own sender"),
    (
        "C33",
        "an event before one it depends on",
        "both applied in the end",
        "that is the handlers' business",
    ),
    ("C35", "a duplicate after the purge", "2xx, 1 event", "it takes as long as events are kept"),
    ("C42", "SIGTERM under load", "nothing acknowledged is lost", "send it a SIGTERM yourself, under `receiver send`"),
    ("C43", "kill -9 under load", "nothing acknowledged is lost", "kill it yourself, under `receiver send`"),
    ("C44", "storage that is down", "503 or a spool, never 2xx for nothing", "stop the database yourself"),
    ("C45", "storage that hangs", "an answer within 3 s", "stop the database's process with SIGSTOP yourself"),
    ("C46", "health while storage is down", "alive, but not ready", "stop the database and ask both yourself"),
)


def _unseen(why: str) -> Callable[[Trial], str]:
    def skip(_trial: Trial) -> str:
        raise Skipped(f"not to be seen over HTTP; {why}")

    return skip


for number, title, expected, instead in UNSEEN:
    item(number, title, expected)(_unseen(instead))
