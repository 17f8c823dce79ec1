"""benchmarks/campaign.py in small: disorder, duplicates and four workers come to what the run in order comes to."""

from dataclasses import replace

from benchmarks import campaign
from benchmarks.campaign_plan import Delivery, Plan
from tests.conftest import PREFIX, created_database


def test_a_campaign_in_disorder_under_four_workers_ends_as_the_run_in_order(server_dsn, template, fresh_dsn):
    plan = Plan(calls=60, seconds=120)

    with created_database(server_dsn, f"{PREFIX}_ordered", template) as ordered:
        report = campaign.run(plan, fresh_dsn, ordered)

    assert report.passed, f"{plan}\n{report}"


def test_one_delivery_in_twenty_comes_late_and_one_in_fifty_twice():
    plan = Plan()
    sent = plan.disordered
    places = {one: place for place, one in reversed(list(enumerate(sent)))}
    by_call: dict[int, list[Delivery]] = {}
    for one in plan.deliveries:
        by_call.setdefault(one.call, []).append(one)

    late = sum(
        any(places[one] > places[later] for later in of_call[nth + 1 :])
        for of_call in by_call.values()
        for nth, one in enumerate(of_call)
    )

    assert set(sent) == set(plan.deliveries)
    assert len(sent) - len(plan.deliveries) == round(0.02 * len(plan.deliveries))
    assert 0.04 < late / len(plan.deliveries) < 0.06


def test_a_report_with_a_difference_is_not_passed():
    right = campaign.Report([("events stored", 2, 2), ("deadlocks", 0, 0)], (1, 1))
    wrong = replace(right, rows=[*right.rows, ("dialogues started", 1, 2)])

    assert (right.passed, wrong.passed) == (True, False)
    assert "<- WRONG" in str(wrong)
