"""What is kept of an exception: its class and message, without the values that caused it.

A driver's and a validator's messages quote what they were given: a phone number, a text, a name. They
go into a column and a log that more people read than may read the payload.
"""

import sys

import psycopg

MOST = 1000  # characters


def describe(error: BaseException) -> str:
    """Return ``Class: message`` on one line, without input values where the library marks them as such."""
    # Whoever raises pydantic's has imported it, and no command of ours needs it to start.
    validator = sys.modules.get("pydantic_core")
    if validator and isinstance(error, validator.ValidationError):
        faults = error.errors(include_input=False, include_url=False, include_context=False)
        message = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults)
    elif isinstance(error, psycopg.DataError):
        message = error.sqlstate or ""  # its message quotes the value: invalid input syntax for type uuid: "..."
    elif isinstance(error, psycopg.Error) and error.diag.message_primary:
        # Not DETAIL, HINT or CONTEXT: "Failing row contains (...)".
        message = f"{error.diag.message_primary} ({error.sqlstate})"
    else:
        message = _text(error)
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return " ".join(text.split()).replace("\0", "\ufffd").encode("utf-8", "replace").decode()[:MOST]


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - an exception's own __str__ may raise anything
        return "its message can't be printed"
