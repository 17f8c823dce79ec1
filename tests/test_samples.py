"""The deliveries that `receiver send` makes up are taken, as what they are named for."""

from datetime import UTC, datetime

import pytest

from receiver.samples import TYPES, Sample, build
from receiver.tour import tour
from tests.http_receiver import rows, settings
from tests.receiver_fixtures import BASE_URL, SECRETS, SOURCES, connection, db, receiver, start

__all__ = ["connection", "db", "receiver", "start"]


@pytest.fixture(scope="module")
def sources(tmp_path_factory, session_database):
    configured = settings(tmp_path_factory.mktemp("samples"), session_database, SOURCES, BASE_URL=BASE_URL, **SECRETS)
    return {source.name: source for source in configured.sources}


@pytest.fixture
def send(receiver, sources):
    """Function that sends a sample to the source of that name, and returns the status."""

    def one(name, sample):
        delivery = build(sources[name], sample, datetime.now(UTC))
        return receiver.send("POST", delivery.target, dict(delivery.headers), delivery.body).status

    return one


@pytest.mark.parametrize("provider", TYPES)
def test_each_sample_is_stored_as_the_type_it_is_named_for(provider, send, db):
    for event_type in TYPES[provider]:
        assert send(provider, Sample(event_type)) == 200

    assert [row.event_type for row in rows(db)] == list(TYPES[provider])
    assert all(row.subject for row in rows(db))


@pytest.mark.parametrize("provider", TYPES)
def test_a_forged_sample_is_refused(provider, send, db):
    assert send(provider, Sample("call.completed", forged=True)) == 401
    assert rows(db) == []


def test_a_forged_secret_fits_into_a_header(sources):
    deliveries = [build(sources["vapi"], Sample("call.completed", forged=True), datetime.now(UTC)) for _ in range(50)]

    assert all(delivery.headers["x-vapi-secret"].isalnum() for delivery in deliveries)


def test_a_samples_query_is_signed_and_kept(send, db):
    assert send("twilio", Sample("call.answered", query={"campaign_id": "spring 1", "contact_id": "ann"})) == 200

    (url,) = db.execute("SELECT url FROM webhook_events").fetchone()
    assert url.endswith("?campaign_id=spring+1&contact_id=ann")


@pytest.mark.parametrize("provider", TYPES)
def test_a_sample_tells_when_it_happened(provider, send, db):
    assert send(provider, Sample("call.answered", ago=3600)) == 200

    assert db.execute(
        "SELECT round(extract(epoch FROM received_at - occurred_at) / 60) FROM webhook_events"
    ).fetchall() == [(60,)]


def test_a_runs_ids_are_its_own_and_named_by_it():
    run = "0123456789abcdef" * 2

    first, again = ({step.sample.subject_id for step in tour()} for _ in range(2))
    named = {step.sample.subject_id for step in tour(run)}

    assert first.isdisjoint(again - {""})
    assert {"paid_012345", f"SM{run}"} <= named
