"""Events that are expected, and what is put into the inbox when they don't come."""

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from psycopg import Connection

from processor.emit import to_json
from sql import load

log = logging.getLogger("processor")


def expect(  # noqa: PLR0913 - one argument a column
    conn: Connection,
    subject: str,
    *,
    within: timedelta,
    otherwise: str,
    app_id: str,
    payload: Mapping[str, Any] | None = None,
) -> None:
    """Expect another event of this subject: not fulfilled within so long, one of type *otherwise* is put in the inbox.

    In the transaction of *conn*: armed once that is committed. Expected already (the same app_id, subject and
    *otherwise*), it is armed anew, from now on. Who handles the expected event says `fulfil`, or expects the next.

    The overdue event has *payload* with ``expected_within_seconds`` and ``armed_at``, source and provider ``inbox``,
    and as occurred_at the time it was due. It comes after that time, not at it: workers look every second while they
    are busy and every --interval seconds while they are idle; and not before every event of the subject that is in
    the inbox is processed or dead, since a backlog is not silence. The expected event may still come once it is
    overdue, so the handler of either looks at the state first. Raises psycopg.Error for a negative time, and for one
    past the year 2199.
    """
    names = {
        "app_id": app_id,
        "subject": subject,
        "event_type": otherwise,
        "within": within,
        "payload": to_json(payload),
    }
    conn.execute(load("expect"), names)


def fulfil(conn: Connection, subject: str, otherwise: str, *, app_id: str) -> None:
    """Expect it no longer, once the transaction of *conn* is committed; nothing, where it was not expected."""
    conn.execute(load("fulfil"), {"app_id": app_id, "subject": subject, "event_type": otherwise})


def raise_overdue(conn: Connection) -> None:
    """Put an event into the inbox for each expectation that is overdue, a thousand at most, and log it.

    Commits, on a connection in autocommit mode. Any number of workers may: of each, one does it.
    """
    for event, event_type in conn.execute(load("raise_overdue")):
        log.info("event overdue id=%d type=%s", event, event_type)
