"""What the dialogue orchestrator wrote of an attempt is its word: no end that telephony tells, or that nobody told."""

import pytest

from tests.arrivals import arrive, connection, db, form, shipped
from tests.inbox import process

__all__ = ["connection", "db", "shipped"]

pytestmark = pytest.mark.usefixtures("shipped")


def tell(db, status):
    target = "/webhooks/telephony/events?call_id=attempt-1&campaign_id=spring&contact_id=ann"
    arrive(db, "twilio", form({"CallSid": "CA1", "CallStatus": status}, target))
    process(db)


@pytest.mark.parametrize("outcome", ["COMPLETED", "REFUSED"])
@pytest.mark.parametrize("end", ["completed", "failed", "canceled", "busy", "no-answer", None])
def test_it_outlasts_the_end_of_the_call(db, end, outcome):
    tell(db, "in-progress")
    db.execute("UPDATE call_attempts SET outcome = %s", [outcome])

    if end:
        tell(db, end)
    else:
        db.execute("UPDATE webhook_expectations SET armed_at = armed_at - interval '5 h', due_at = now()")
        process(db)

    (state,) = db.execute("SELECT state FROM calls").fetchone()
    assert state == ("timeout" if end is None else end.replace("-", "_"))
    assert db.execute("SELECT outcome FROM call_attempts").fetchall() == [(outcome,)]
