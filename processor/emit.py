"""Events of our own, in the same inbox as the providers': logged, replayed, retried and ordered as theirs are."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from psycopg import Connection

from sql import load


def emit(  # noqa: PLR0913 - one argument a column
    conn: Connection,
    event_type: str,
    subject: str | None,
    *,
    app_id: str,
    key: str,
    payload: Mapping[str, Any] | None = None,
    occurred_at: datetime | None = None,
) -> bool:
    """Put an event into the inbox, in the transaction of *conn*; return whether it is new.

    It is there once that is committed, and idle workers are woken then. Its source and provider are ``inbox``. Of one
    app_id and event type a *key* is stored once: a handler that runs again emits nothing twice, and one that is to
    (at a replay, say) gives another key. *payload* is what JSON can hold; None: ``{}``. Raises TypeError or
    ValueError for what it can't, psycopg.Error for an empty type or subject.
    """
    names = {
        "app_id": app_id,
        "event_type": event_type,
        "subject": subject,
        "key": key,
        "payload": to_json(payload),
        "occurred_at": occurred_at,
    }
    return conn.execute(load("emit_event"), names).fetchone() != (None,)


def to_json(payload: Mapping[str, Any] | None) -> str:
    """Return a payload's text. Raises TypeError or ValueError for what JSON can't hold."""
    return json.dumps(payload or {}, ensure_ascii=False, allow_nan=False)
