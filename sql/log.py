"""What a log line looks like, in both processes: one outcome, one line, whatever a field holds.

It stands in this room because it is the only one both may import.
"""

import logging
import sys
import time
import traceback
import unicodedata
from collections.abc import Mapping

LEVELS = "DEBUG, INFO, WARNING, ERROR or CRITICAL"


class OneLine(logging.Formatter):
    """Time, level, logger, message; what could forge a line or steer a terminal (controls, bidi marks) is escaped."""

    second = ("", -1)  # the last one's text, and which it was

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line. Of a traceback only class and place stay: messages can hold a payload."""
        where = ""
        if record.exc_info and record.exc_info[0]:
            *_, last = traceback.extract_tb(record.exc_info[2]) or [None]
            where = f" exception={record.exc_info[0].__name__}" + (f" at={last.filename}:{last.lineno}" if last else "")
        return self.line(record.created, record.levelname, record.name, record.getMessage().rstrip() + where)

    def line(self, at: float, level: str, name: str, text: str) -> str:
        """Return the line of this text, said at a Unix time."""
        return f"{self._time(at)} {level} {name} {printable(text)}"

    def _time(self, at: float) -> str:
        """Return the local time to the millisecond; all but that is made once a second."""
        text, made = self.second
        if made != int(at):
            made = int(at)
            text = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(made))
            self.second = (text, made)
        return f"{text},{int((at - made) * 1000):03d}"


def printable(text: str) -> str:
    r"""Return *text* with every character that isn't printable as its ``\x``, ``\u`` or ``\U`` escape."""
    if text.isprintable():
        return text
    return "".join(
        character
        if unicodedata.category(character)[0] not in "CZ" or character == " "
        else character.encode("unicode_escape").decode()
        for character in text
    )


def to_stream(environ: Mapping[str, str]) -> None:
    """Send every logger's records to stderr at LOG_LEVEL (INFO), one line each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine())
    # Looked up for each line otherwise, and written in none.
    logging._srcfile = None  # noqa: SLF001 - as logging's documentation has it
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    asked = environ.get("LOG_LEVEL", "").strip().upper()
    known = asked in logging.getLevelNamesMapping()
    logging.basicConfig(level=asked if known else "INFO", handlers=[handler], force=True)
    if asked and not known:
        logging.getLogger("log").warning("LOG_LEVEL unknown value=%s; expected %s; it is INFO", asked, LEVELS)
    # The pool repeats each failed attempt to connect several times a second.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
