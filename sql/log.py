"""What a log line looks like, in both processes: one outcome, one line, whatever a field holds.

It stands in this room because it is the only one both may import.
"""

import logging
import sys
import traceback
import unicodedata
from collections.abc import Mapping

FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


class OneLine(logging.Formatter):
    """Escapes what could forge a line or steer a terminal: controls, line ends, bidi and other format marks."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line. Of a traceback only class and place stay: messages can hold a payload."""
        where = ""
        if record.exc_info and record.exc_info[0]:
            *_, last = traceback.extract_tb(record.exc_info[2]) or [None]
            where = f" exception={record.exc_info[0].__name__}" + (f" at={last.filename}:{last.lineno}" if last else "")
        record.exc_text = record.exc_info = record.stack_info = None
        return printable(super().format(record).rstrip() + where)


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
    handler.setFormatter(OneLine(FORMAT))
    level = environ.get("LOG_LEVEL", "").upper()
    logging.basicConfig(
        level=level if level in logging.getLevelNamesMapping() else "INFO", handlers=[handler], force=True
    )
    # The pool repeats each failed attempt to connect several times a second.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
