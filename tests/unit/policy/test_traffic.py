"""The traffic plan: flat at first, then the shape of the days that were seen whole."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.domain.errors import SettingError
from models.policy.traffic import BUCKETS, MINUTES, TrafficPlan

QUARTER_MS = 900_000


def day_of(plan, counts):
    for bucket, count in enumerate(counts):
        plan.count(bucket * QUARTER_MS, count)
    plan.close_day()


def test_a_new_plan_is_flat():
    assert TrafficPlan().share_of_rest(0) == pytest.approx(1 / MINUTES)


def test_the_last_minute_takes_all_that_is_left():
    assert TrafficPlan().share_of_rest(MINUTES - 1) == pytest.approx(1.0)


def test_a_day_seen_whole_becomes_the_plan():
    plan = TrafficPlan()
    plan.start(0)
    day_of(plan, [3] * 48 + [1] * 48)
    assert plan.weights[0] / plan.weights[95] == pytest.approx((0.1 + 0.9 * 1.5) / (0.1 + 0.9 * 0.5))


def test_a_day_seen_from_noon_is_not_learned():
    plan = TrafficPlan()
    plan.start(48 * QUARTER_MS)
    day_of(plan, [0] * 48 + [1] * 48)
    assert (plan.days, plan.weights, plan.whole_day) == (0, TrafficPlan().weights, True)


def test_a_day_without_traffic_changes_nothing():
    plan = TrafficPlan(whole_day=True)
    plan.close_day()
    assert plan.weights == TrafficPlan().weights


def begun(plan, counts, first=0):
    """Count the quarters of a day from ``first`` on, each to its end."""
    plan.start(first * QUARTER_MS)
    for quarter, count in enumerate(counts, start=first):
        plan.count(quarter * QUARTER_MS, count)
        for minute in range(15 * quarter, 15 * quarter + 15):
            plan.close_minute(minute)
    return plan


def test_on_a_first_day_what_is_not_known_yet_is_taken_for_somewhat_more_than_what_was_seen():
    """Traffic goes up by a factor as often as down, and up by half is more than down by a third."""
    even = [begun(TrafficPlan(), [1000] * 4 * hours).share_of_rest(60 * hours) for hours in (6, 12, 18, 23)]
    assert [share * (24 - hours) * 60 for share, hours in zip(even, (6, 12, 18, 23), strict=True)] == (
        pytest.approx([0.79, 0.87, 0.96, 1.0], abs=0.02)
    )


def test_a_first_day_that_has_passed_its_trough_is_planned_to_bring_more():
    swing = [round(1000 + 600 * math.cos(math.tau * quarter / BUCKETS)) for quarter in range(BUCKETS)]
    share = begun(TrafficPlan(), swing[:72]).share_of_rest(18 * 60)
    truth = swing[72] / 15 / sum(swing[72:])
    assert share == pytest.approx(truth, rel=0.15)
    assert truth < 0.75 / (6 * 60), "the minute has less than an even share"


def test_the_evening_before_helps_to_plan_a_first_whole_day():
    plan = begun(TrafficPlan(), [100] * 24, first=72)
    plan.close_day()
    before = plan.share_of_rest(0)
    begun(plan, [10] * 4)
    assert plan.share_of_rest(60) < before / 2, "a poor night, and the evening will be as yesterday's"


def test_a_quarter_that_was_seen_in_part_says_nothing():
    plan = TrafficPlan()
    plan.start(40 * QUARTER_MS + 60_000)
    plan.count(40 * QUARTER_MS + 70_000, 1)
    plan.close_minute(40 * 15 + 14)
    assert plan.weights == TrafficPlan().weights


@pytest.mark.parametrize("plan", [TrafficPlan.of([3.0] * 12 + [1.0] * 12), TrafficPlan(days=1)])
def test_a_plan_that_is_known_is_not_foretold(plan):
    weights = list(plan.weights)
    assert begun(plan, [0] * 8 + [1000] * 8).weights == weights


counts = st.lists(st.integers(0, 1000), min_size=BUCKETS, max_size=BUCKETS)


@settings(max_examples=20)
@given(st.lists(counts, min_size=1, max_size=4))
def test_the_shares_of_the_rest_spend_a_day_exactly(days):
    plan = TrafficPlan(whole_day=True)
    for day in days:
        day_of(plan, day)
    assert sum(plan.weights) == pytest.approx(1.0)
    left = 1.0
    for minute in range(MINUTES):
        left -= left * plan.share_of_rest(minute)
    assert left == pytest.approx(0.0, abs=1e-9)
    assert min(plan.weights) > 0.0


@settings(max_examples=20)
@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=BUCKETS))
def test_whatever_a_first_day_brings_its_plan_stays_one(counts):
    plan = begun(TrafficPlan(), counts)
    assert sum(plan.weights) == pytest.approx(1.0)
    assert min(plan.weights) >= 0.1 / BUCKETS


def test_a_plan_may_begin_with_known_hours_and_keeps_a_tenth_flat():
    plan = TrafficPlan.of([3.0] * 12 + [1.0] * 12)
    assert sum(plan.weights) == pytest.approx(1.0)
    assert plan.weights[0] / plan.weights[95] == pytest.approx((0.1 + 0.9 * 1.5) / (0.1 + 0.9 * 0.5))
    assert TrafficPlan.of(()) == TrafficPlan()


@pytest.mark.parametrize("weights", [[1.0] * 25, [0.0] * 24, [-1.0, *[1.0] * 23], [float("nan")] * 24])
def test_a_plan_that_is_none_is_refused(weights):
    with pytest.raises(SettingError, match="24 or 96"):
        TrafficPlan.of(weights)
