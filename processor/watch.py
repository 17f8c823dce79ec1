"""A campaign's progress as it changes: for `processor watch campaign`, and for whatever shows it to users."""

import time
from collections.abc import Iterator

from psycopg import Connection
from psycopg.errors import UndefinedTable
from psycopg.rows import dict_row

from processor.operations import Row
from sql import load

INTERVAL = 1.0  # seconds between two looks


class NoCampaigns(Exception):
    """The database has no view campaign_progress."""

    def __init__(self) -> None:
        super().__init__(
            "no campaigns here: the view campaign_progress is missing; run `processor db migrate`, unless this "
            "deployment leaves the campaigns system out"
        )


def follow_campaign(conn: Connection, app_id: str, campaign_id: str, interval: float = INTERVAL) -> Iterator[Row]:
    """Yield how far a campaign is, and then each change, until it is COMPLETED; nothing where there is none.

    A row has the columns of campaign_progress, rates as floats, and ``at``, the database's time of the look; looks are
    *interval* seconds apart, so what changes and changes back in between is not told. conn: in autocommit mode; no
    transaction is open between two looks. Raises NoCampaigns, and psycopg.OperationalError when the database goes away.
    """
    before = None
    while (found := campaign_progress(conn, app_id, campaign_id)) is not None:
        state = {name: value for name, value in found.items() if name != "at"}
        if state != before:
            yield found
        if found["status"] == "COMPLETED":
            return
        before = state
        time.sleep(interval)


def campaign_progress(conn: Connection, app_id: str, campaign_id: str) -> Row | None:
    """Return how far a campaign is, as follow_campaign has it; None where there is none. Raises NoCampaigns."""
    try:
        names = {"app_id": app_id, "campaign_id": campaign_id}
        return conn.cursor(row_factory=dict_row).execute(load("campaign_progress"), names).fetchone()
    except UndefinedTable as error:
        raise NoCampaigns from error
